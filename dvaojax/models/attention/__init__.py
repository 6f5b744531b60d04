"""Grouped attention: G completions attend to one shared prompt and not to each other.

Keys and values have `N` heads, queries `H`; a key/value head serves `H / N` query heads (Ainslie et
al., arXiv:2305.13245). Neither heads nor prompts are repeated in memory.
"""

from dvaojax.models.attention.decoding import attend as attend
from dvaojax.models.attention.decoding import group_attention as group_attention
from dvaojax.models.attention.training import completion_padding as completion_padding
from dvaojax.models.attention.training import has_head_kernel as has_head_kernel
from dvaojax.models.attention.training import joint_attention as joint_attention
from dvaojax.models.attention.training import packed_attention as packed_attention
from dvaojax.models.attention.training import row_padding as row_padding
