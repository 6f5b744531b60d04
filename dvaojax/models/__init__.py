"""The decoder and its pure functions of a parameter pytree.

The modules are Flax NNX inside this package; all other packages see plain pytrees of arrays.
"""

from dvaojax.models.config import ModelConfig as ModelConfig
from dvaojax.models.config import RopeScaling as RopeScaling
from dvaojax.models.decoder import Decoder as Decoder
from dvaojax.models.decoder import JoinedParams as JoinedParams
from dvaojax.models.decoder import Params as Params
from dvaojax.models.decoder import apply as apply
from dvaojax.models.decoder import cast_joined as cast_joined
from dvaojax.models.decoder import init as init
from dvaojax.models.decoder import join as join
from dvaojax.models.decoder import logical_axes as logical_axes
from dvaojax.models.decoder import shapes as shapes
from dvaojax.models.decoder import unrolls_layers as unrolls_layers
from dvaojax.models.logit_gradients import logit_gradient_norms as logit_gradient_norms
from dvaojax.models.logprobs import most_likely as most_likely
from dvaojax.models.logprobs import other_power_sums as other_power_sums
from dvaojax.models.logprobs import summarized_logprobs as summarized_logprobs
from dvaojax.models.logprobs import token_logprobs as token_logprobs
from dvaojax.models.unrolled import UnrolledDecoder as UnrolledDecoder
from dvaojax.models.unrolled import unrolled as unrolled
