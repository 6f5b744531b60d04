"""Papers that the methods of this package are from, and their BibTeX entries.

Author lists that we know only in part end with "and others", as in BibTeX. Years are those of the
first version, which the arXiv number encodes; titles are those of the latest version we read.
"""

from typing import NamedTuple


class Paper(NamedTuple):
    """A paper, or a repository without a paper.

    Attributes:
        key: citation key.
        arxiv: arXiv number; empty for a repository without a paper.
        title: of the paper.
        authors: in BibTeX format; empty if unknown.
        code: repository and commit, for code without a paper.
    """

    key: str
    arxiv: str
    title: str
    authors: str = ""
    code: str = ""

    @property
    def year(self) -> int:
        """Year of the first version; 0 for code."""
        return 2000 + int(self.arxiv[:2]) if self.arxiv else 0

    @property
    def name(self) -> str:
        """Short name in tables: the arXiv number, or the repository and commit."""
        return self.arxiv or self.code

    @property
    def link(self) -> str:
        """Web address."""
        where = "arxiv.org/abs" if self.arxiv else "github.com"
        return f"https://{where}/{self.name.partition('@')[0]}"


def bibtex(paper: Paper) -> str:
    """Returns a BibTeX entry of several lines."""
    fields = {"title": f"{{{paper.title}}}", "author": paper.authors}
    if paper.arxiv:
        fields |= {"year": str(paper.year), "eprint": paper.arxiv, "archivePrefix": "arXiv"}
    else:
        fields |= {"note": f"Code, commit {paper.code.partition('@')[2]}"}
    fields |= {"url": paper.link}
    width = max(map(len, fields))
    lines = [f"  {field:{width}} = {{{text}}}," for field, text in fields.items() if text]
    return "\n".join([f"@misc{{{paper.key},", *lines, "}"])


# Advantages.

DVAO = Paper(
    "jiang2026dvao",
    "2605.25604",
    "DVAO: Dynamic Variance-adaptive Advantage Optimization for Multi-reward Reinforcement "
    "Learning",
    "Guochao Jiang and Jingyi Song and Guofeng Quan and Chuzhan Hao and Guohua Liu and Yuewei "
    "Zhang",
)
MO_GRPO = Paper(
    "ichihara2025mogrpo",
    "2509.22047",
    "MO-GRPO: Mitigating Reward Hacking of Group Relative Policy Optimization on Multi-Objective "
    "Problems",
    "Yuki Ichihara and Yuu Jinnai and Tetsuro Morimura and Mitsuki Sakamoto and Ryota Mitsuhashi "
    "and Eiji Uchibe",
)
GRPO = Paper(
    "shao2024deepseekmath",
    "2402.03300",
    "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
    "Zhihong Shao and Peiyi Wang and Qihao Zhu and Runxin Xu and Junxiao Song and Xiao Bi and "
    "Haowei Zhang and Mingchuan Zhang and Y. K. Li and Y. Wu and Daya Guo",
)
DR_GRPO = Paper(
    "liu2025drgrpo",
    "2503.20783",
    "Understanding R1-Zero-Like Training: A Critical Perspective",
    "Zichen Liu and Changyu Chen and Wenjun Li and Penghui Qi and Tianyu Pang and Chao Du and Wee "
    "Sun Lee and Min Lin",
)
RLOO = Paper(
    "ahmadian2024rloo",
    "2402.14740",
    "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in "
    "LLMs",
    "Arash Ahmadian and Chris Cremer and Matthias Gall{\\'e} and Marzieh Fadaee and Julia Kreutzer "
    'and Olivier Pietquin and Ahmet {\\"U}st{\\"u}n and Sara Hooker',
)
OPO = Paper(
    "hao2025opo",
    "2505.23585",
    "On-Policy RL with Optimal Reward Baseline",
    "Yaru Hao and Li Dong and Xun Wu and Shaohan Huang and Zewen Chi and Furu Wei",
)
OBLR_PO = Paper(
    "huang2025oblrpo",
    "2511.23310",
    "OBLR-PO: A Theoretical Framework for Stable Reinforcement Learning",
    "Zixun Huang and Jiayi Sheng and Zeyu Zheng",
)
CAPO = Paper(
    "melo2025capo",
    "2510.00819",
    "Stabilizing Policy Gradients for Sample-Efficient Reinforcement Learning in LLM Reasoning",
    "Luckeciano C. Melo and Alessandro Abate and Yarin Gal",
)
DPO = Paper(
    "rafailov2023dpo",
    "2305.18290",
    "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
    "Rafael Rafailov and Archit Sharma and Eric Mitchell and Stefano Ermon and "
    "Christopher D. Manning and Chelsea Finn",
)
OPTIMAL_TOKEN_BASELINE = Paper(
    "otb", "", "Optimal token baseline", code="verl-project/verl@1dda039b9"
)
GDPO = Paper(
    "liu2026gdpo",
    "2601.05242",
    "GDPO: Group reward-Decoupled Normalization Policy Optimization for Multi-reward RL "
    "Optimization",
    "Shih-Yang Liu and Xin Dong and Ximing Lu and Shizhe Diao and Peter Belcak and Mingjie Liu and "
    "Min-Hung Chen and Hongxu Yin and Yu-Chiang Frank Wang and Kwang-Ting Cheng and Yejin Choi and "
    "Jan Kautz and Pavlo Molchanov",
)
RVPO = Paper(
    "montero2026rvpo",
    "2605.05750",
    "RVPO: Risk-Sensitive Alignment via Variance Regularization",
    "Ivan Montero and Tomasz Jurczyk and Bhuwan Dhingra",
)
CONSTRAINED_GRPO = Paper(
    "girgis2026constrained",
    "2602.05863",
    "Constrained Group Relative Policy Optimization",
    "Roger Girgis and Rodrigue de Schaetzen and Luke Rowe and Azal{\\'e}e Robitaille and "
    "Christopher Pal and Liam Paull",
)
SAFE_RLHF = Paper(
    "dai2023saferlhf",
    "2310.12773",
    "Safe RLHF: Safe Reinforcement Learning from Human Feedback",
    "Josef Dai and others",
)
CTWA = Paper(
    "lu2026interference",
    "2602.06869",
    "Uncovering Cross-Objective Interference in Multi-Objective Alignment",
    "Yining Lu and Meng Jiang",
)
AMO = Paper("amo", "", "Amo", code="Artessay/Amo@6e7df03")
LITE_PPO = Paper(
    "liu2025tricks",
    "2508.08221",
    "Part I: Tricks or Traps? A Deep Dive into RL for LLM Reasoning",
    "Zihe Liu and Jiashun Liu and Yancheng He and Weixun Wang and Jiaheng Liu and Ling Pan and "
    "Xinyu Hu and Shaopan Xiong and Ju Huang and Jian Hu and Shengyi Huang and Johan Obando-Ceron "
    "and Siran Yang and Jiamang Wang and Wenbo Su and Bo Zheng",
)
CORR_GRPO = Paper(
    "hu2026corrgrpo",
    "2609.36820",
    "CorrGRPO: Correlation-Normalized GRPO for Multi-Reward Learning",
    "Wenbin Hu and Huihao Jing and Haochen Shi and Yuxuan Liu and Haoran Li and Yangqiu Song",
)
JAMES_STEIN = Paper(
    "zeng2025shrinking",
    "2511.03710",
    "Shrinking the Variance: Shrinkage Baselines for Reinforcement Learning with Verifiable "
    "Rewards",
    "Guanning Zeng and Zhaoyi Zhou and Daman Arora and Andrea Zanette",
)
MAXRL = Paper(
    "tajwar2026maxrl",
    "2602.02710",
    "Maximum Likelihood Reinforcement Learning",
    "Fahim Tajwar and Guanning Zeng and Yueer Zhou and Yuda Song and Daman Arora and Yiding Jiang "
    "and Jeff Schneider and Ruslan Salakhutdinov and Haiwen Feng and Andrea Zanette",
)
REINFORCE_PLUS_PLUS = Paper(
    "hu2025reinforce",
    "2501.03262",
    "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Advantage Normalization",
    "Jian Hu and Jason Klein Liu and Haotian Xu and Wei Shen",
)
SAW = Paper(
    "he2026saw",
    "2606.07705",
    "SAW: Stage-Aware Dynamic Weighting for Multi-Objective Reinforcement Learning in Large "
    "Language Models",
    "Yuchen He and Baolong Bi and Shenghua Liu and Huaming Liao and Yuyao Ge and Bolin Wan and "
    "Siqian Tong and Juan Chen and Jiafeng Guo and Xueqi Cheng",
)
GD2PO = Paper(
    "liu2026gd2po",
    "2606.16771",
    "GD$^2$PO: Mitigating Multi-Reward Conflicts via Group-Dynamic reward-Decoupled Policy "
    "Optimization",
    "Haotian Liu and Yihao Liu and Jingwei Ni and Siyuan Huang and Xinpeng Liu and Pengyu Cheng "
    "and Jiajun Song and Ruijin Ding and Junfeng Li and Zhechao Yu and Mengyu Zhou and Hongteng Xu "
    "and Xiaoxi Jiang and Guanjun Jiang",
)
SA_MRPO = Paper(
    "wang2026samrpo",
    "2608.16072",
    "Learn What's Left, Not What's Mastered: Saturation Aware Advantage Reweighting for "
    "Multi-Reward Policy Optimization",
    "Yixuan Wang and Yifei Chen and Haichao Zhang and Haozheng Luo and Xander Wu and Jie Ni and "
    "Yun Fu and Nuno Vasconcelos and Yijiang Li",
)
DARA = Paper(
    "zheng2026dara",
    "2610.00574",
    "Make Sparse Rewards Count: Density-Aware Reward Aggregation for Multi-Reward RL",
    "Tong Zheng and Skylar Zhai and Zhan Cheng and TianMing Sha and Youling Huang and Shuo Zhou "
    "and Shaotong Qi and Jingcheng Liang and Xuwei Ding and Pengcheng Xu",
)
PANACEA = Paper(
    "zhong2024panacea",
    "2402.02030",
    "Panacea: Pareto Alignment via Preference Adaptation for LLMs",
    "Yifan Zhong and Chengdong Ma and Xiaoyuan Zhang and Ziran Yang and others",
)
RDPO = Paper(
    "bai2026rdpo",
    "2605.13641",
    "Multi-Objective and Mixed-Reward Reinforcement Learning via Reward-Decorrelated Policy "
    "Optimization",
    "Yang Bai and Kaiyuan Liu and Ziyuan Zhuang and Jiahong Zhou and Rongxiang Weng and Xin Chen "
    "and Jingang Wang and Xunliang Cai",
)
FOCAL_REWARD = Paper(
    "huang2026focal",
    "2605.26579",
    "Focal Reward: Balanced Reinforcement Learning under Rubric-Based Rewards",
    "Yu Huang and Zihua Zhao and Zhaoxin Huan and Wanli Gu and Feng Hong and Xinmu Ge and Lin Yuan "
    "and Weichang Wu and Qiang Hu and Xiaolu Zhang and others",
)
VPO = Paper(
    "bahlousboldi2026vpo",
    "2605.22817",
    "Vector Policy Optimization: Training for Diversity Improves Test-Time Search",
    "Ryan Bahlous-Boldi and Isha Puri and Idan Shenfeld and Akarsh Kumar and Mehul Damani and "
    "Sebastian Risi and Omar Khattab and Zhang-Wei Hong and Pulkit Agrawal",
)
DRO = Paper(
    "xu2025dro",
    "2506.13351",
    "Direct Reasoning Optimization: Token-Level Reasoning Reflectivity Meets Rubric Gates for "
    "Unverifiable Tasks",
    "Yifei Xu and Tusher Chakraborty and Srinagesh Sharma and Leonardo Nunes and others",
)
MS_GRPO = Paper(
    "dilkes2025msgrpo",
    "2508.10839",
    "Reinforced Language Models for Sequential Decision Making",
    "Jim Dilkes and Vahid Yazdanpanah and Sebastian Stein",
)
GTPO = Paper(
    "ding2025gtpo",
    "2511.14846",
    "Empowering Multi-Turn Tool-Integrated Reasoning with Group Turn Policy Optimization",
    "Yifeng Ding and Hung Le and Songyang Han and Kangrui Ruan and Zhenghui Jin and Varun Kumar "
    "and Zijian Wang and Anoop Deoras",
)

# Allocation of completions to prompts.

DYNAMO = Paper(
    "fang2026dynamo",
    "2602.19208",
    "How to Allocate, How to Learn? Dynamic Rollout Allocation and Advantage Modulation for Policy "
    "Optimization",
    "Yangyi Fang and Jiaye Lin and Xiaoliang Fu and Cong Qin and Haolin Shi and Chaowen Hu and Lu "
    "Pan and Ke Zeng and Xunliang Cai",
)
GVM = Paper(
    "yao2025gvm",
    "2505.02391",
    "Optimizing Chain-of-Thought Reasoners via Gradient Variance Minimization in Rejection "
    "Sampling and RL",
    "Jiarui Yao and Yifan Hao and Hanning Zhang and Hanze Dong and Wei Xiong and Nan Jiang and "
    "Tong Zhang",
)

GRADALIGN = Paper(
    "yang2026gradalign",
    "2602.21492",
    "GradAlign: Gradient-Aligned Data Selection for LLM Reinforcement Learning",
    "Ningyuan Yang and Weihua Du and Weiwei Sun and Sean Welleck and Yiming Yang",
)
SAGE = Paper(
    "wu2026sage",
    "2602.01207",
    "Not All Preferences Are Created Equal: Stability-Aware and Gradient-Efficient Alignment for "
    "Reasoning Models",
    "Hui Wu and Hengyi Cai and Jinman Zhao and Xinran Chen and Ziheng Li and Zhejun Zhao and "
    "Shuaiqiang Wang and Yuchen Li and Dawei Yin",
)
VIP = Paper(
    "nguyen2026vip",
    "2602.01601",
    "Adaptive Rollout Allocation for Online Reinforcement Learning with Verifiable Rewards",
    "Hieu Trung Nguyen and Bao Nguyen and Wenao Ma and Yuzhi Zhao and Ruifeng She and Viet Anh "
    "Nguyen",
)

# Losses.

PPO = Paper(
    "schulman2017ppo",
    "1707.06347",
    "Proximal Policy Optimization Algorithms",
    "John Schulman and Filip Wolski and Prafulla Dhariwal and Alec Radford and Oleg Klimov",
)
DAPO = Paper(
    "yu2025dapo",
    "2503.14476",
    "DAPO: An Open-Source LLM Reinforcement Learning System at Scale",
    "Qiying Yu and Zheng Zhang and Ruofei Zhu and Yufeng Yuan and Xiaochen Zuo and others",
)
GSPO = Paper(
    "zheng2025gspo",
    "2507.18071",
    "Group Sequence Policy Optimization",
    "Chujie Zheng and Shixuan Liu and Mingze Li and Xiong-Hui Chen and Bowen Yu and Chang Gao and "
    "Kai Dang and Yuqiong Liu and Rui Men and An Yang and Jingren Zhou and Junyang Lin",
)
GMPO = Paper(
    "zhao2025gmpo",
    "2507.20673",
    "Geometric-Mean Policy Optimization",
    "Yuzhong Zhao and Yue Liu and Junpeng Liu and Jingye Chen and Xun Wu and Yaru Hao and Tengchao "
    "Lv and Shaohan Huang and Lei Cui and Qixiang Ye and Fang Wan and Furu Wei",
)
CISPO = Paper(
    "minimax2025m1",
    "2506.13585",
    "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention",
    "{MiniMax}",
)
MINPRO = Paper(
    "lei2026minpro",
    "2601.22718",
    "A Step Back: Prefix Importance Ratio Stabilizes Policy Optimization",
    "Shiye Lei and Zhihao Cheng and Dacheng Tao",
)
SAPO = Paper(
    "gao2025sapo",
    "2511.20347",
    "Soft Adaptive Policy Optimization",
    "Chang Gao and Chujie Zheng and Xiong-Hui Chen and Kai Dang and Shixuan Liu and Bowen Yu and "
    "An Yang and Shuai Bai and Jingren Zhou and Junyang Lin",
)
DPPO = Paper(
    "qi2026dppo",
    "2602.04879",
    "Rethinking the Trust Region in LLM Reinforcement Learning",
    "Penghui Qi and Xiangxin Zhou and Zichen Liu and Tianyu Pang and Chao Du and Min Lin and Wee "
    "Sun Lee",
)
COVARIANCE = Paper(
    "cui2025entropy",
    "2505.22617",
    "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models",
    "Ganqu Cui and Yuchen Zhang and Jiacheng Chen and Lifan Yuan and Zhi Wang and Yuxin Zuo and "
    "Haozhan Li and Yuchen Fan and Huayu Chen and Weize Chen and Zhiyuan Liu and Hao Peng and Lei "
    "Bai and Wanli Ouyang and Yu Cheng and Bowen Zhou and Ning Ding",
)
LCO = Paper(
    "chen2026lco",
    "2603.00963",
    "Stabilizing Policy Optimization via Logits Convexity",
    "Chen and others",
)
