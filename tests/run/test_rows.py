"""Rows of earlier versions are read under today's metric names."""

from dvaojax import files
from dvaojax.evaluation.history import read_history
from dvaojax.run.rows import RENAMED_METRICS, read_rows


def test_reads_rows_with_old_metric_names(tmp_path):
    path = tmp_path / files.METRICS
    path.write_text(
        '{"step": 1, "agreement": 0.5, "silent_groups": 0.25}\n'  # language: quoted
        '{"step": 2, "agreement": 0.5, "zero_variance_groups": 0.75}\n'
    )
    assert read_rows(path) == [
        {"step": 1, "agreement": 0.5, "zero_variance_groups": 0.25},
        {"step": 2, "agreement": 0.5, "zero_variance_groups": 0.75},
    ]
    columns = read_history(tmp_path).columns
    assert columns["zero_variance_groups"].tolist() == [0.25, 0.75]
    assert not columns.keys() & RENAMED_METRICS.keys()
