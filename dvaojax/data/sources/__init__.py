"""Published datasets: the addresses of their files, and their conversion into records."""

from dvaojax.data.sources.bfcl import BFCL
from dvaojax.data.sources.contests import AIME24, AIME25, AMC23
from dvaojax.data.sources.instructions import IFEVAL
from dvaojax.data.sources.mathematics import DAPO_MATH_17K, GSM8K, MATH500, OLYMPIADBENCH
from dvaojax.data.sources.programs import HUMANEVAL, MBPP
from dvaojax.data.sources.published import DataSet as DataSet
from dvaojax.data.sources.published import File as File
from dvaojax.data.sources.rubrics import HEALTHBENCH
from dvaojax.data.sources.toolrl import TOOLRL

BY_NAME = {
    data_set.name: data_set
    for data_set in (
        GSM8K,
        MATH500,
        AIME24,
        AIME25,
        AMC23,
        OLYMPIADBENCH,
        DAPO_MATH_17K,
        TOOLRL,
        BFCL,
        HEALTHBENCH,
        IFEVAL,
        MBPP,
        HUMANEVAL,
    )
}
"""Name -> published dataset."""
