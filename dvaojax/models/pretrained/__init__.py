"""Published weights: reading and writing directories with `config.json` and safetensors files.

    configuration   config.json <-> ModelConfig
    parameters      names and shapes of our parameters <-> those of the tensors
    weight_storage  files on a disk or in a bucket, of which ranges of bytes are read
    tensors         safetensors files, one tensor at a time
    loading         tensors -> parameters, directly into their shards
    writing         parameters -> tensors

The format is that of `transformers`, which is not needed here.
"""

from dvaojax.models.pretrained.configuration import check_agreement as check_agreement
from dvaojax.models.pretrained.configuration import make_description as make_description
from dvaojax.models.pretrained.configuration import model_config as model_config
from dvaojax.models.pretrained.configuration import read_description as read_description
from dvaojax.models.pretrained.loading import check as check
from dvaojax.models.pretrained.loading import load as load
from dvaojax.models.pretrained.weight_storage import weight_files as weight_files
from dvaojax.models.pretrained.writing import WRITE_DTYPES as WRITE_DTYPES
from dvaojax.models.pretrained.writing import write as write
