"""`tensorflow-datasets` builders that write datasets as array records, without TensorFlow.

Needs the extra `data`. A record is three strings of JSON, so that every dataset has the same
features and no integer is rounded.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvaojax import files
from dvaojax.data.records import ProblemRecord
from dvaojax.data.sources.published import DataSet
from dvaojax.errors import UserError, first_line, import_extra, root_cause

tfds = import_extra("tensorflow_datasets", extra="data")
import_extra("array_record.python.array_record_module", extra="data")

# Allows random access: a record is read without reading those before it.
FILE_FORMAT = "array_record"


class RecordBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore[reportGeneralTypeIssues, reportCallIssue]
    """Base class of the builders; `builder` creates the one of a given dataset.

    The metadata of the prepared dataset records the source files (`files`: key -> name and
    SHA-256), the missing ones (`absent`), repaired or dropped rows (`noted`: description -> count),
    and the columns of the user's own rows (`columns`: field -> column).
    """

    data_set: DataSet
    url_infos = None  # downloads are checked in `_download`, not against a checksum file

    def __init__(
        self,
        *,
        paths: Mapping[str, Path] | None = None,
        columns: Mapping[str, str] | None = None,
        **kwargs: Any,
    ):
        """
        Args:
            paths: key -> local file of the dataset; None downloads all files.
            columns: field -> column of the user's own rows, to be recorded.
            kwargs: arguments of every builder, such as `data_dir`.
        """
        self._paths = paths
        self._columns = columns
        self._kept: dict[str, Any] = tfds.core.MetadataDict()
        super().__init__(**kwargs)

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.data_set.title,
            license=self.data_set.licence,
            features=tfds.features.FeaturesDict(
                {name: tfds.features.Text() for name in ("prompt", "answer", "metadata")}
            ),
            metadata=self._kept,
            disable_shuffling=True,  # rows keep their order; training shuffles
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        paths = self._download(dl_manager) if self._paths is None else self._paths
        noted: Counter[str] = Counter()
        splits = self.data_set.parse(paths, noted)
        for split, records in splits.items():
            if not records:
                raise UserError(f"{self.name}: its files have no record for the split {split!r}")
        if not splits:
            raise UserError(f"{self.name}: its files have no record")
        self._kept["files"] = {
            key: {"name": path.name, "sha256": files.sha256(path)} for key, path in paths.items()
        }
        self._kept["absent"] = [key for key in self.data_set.files if key not in paths]
        self._kept["noted"] = {note: count for note, count in noted.items() if count}
        if self._columns:
            self._kept["columns"] = dict(self._columns)
        return {split: self._generate_examples(records) for split, records in splits.items()}

    def _generate_examples(
        self, records: list[ProblemRecord]
    ) -> Iterator[tuple[int, dict[str, str]]]:
        for number, record in enumerate(records):
            parts = record.to_json().items()
            yield number, {name: json.dumps(part, ensure_ascii=False) for name, part in parts}

    def _download(self, dl_manager: Any) -> dict[str, Path]:
        """Downloads all files of the dataset and checks their SHA-256."""
        published = self.data_set.files
        try:
            arrived = dl_manager.download({key: file.url for key, file in published.items()})
        except Exception as error:  # download libraries raise errors of many classes
            names = ", ".join(file.names[0] for file in published.values())
            reason = first_line(root_cause(error))
            raise UserError(
                f"{self.name} cannot be downloaded ({reason}); get its files elsewhere ({names}) "
                f"and pass them: dvaojax data prepare {self.name} --source FILE_OR_DIRECTORY"
            ) from error
        paths = {key: Path(path) for key, path in arrived.items()}
        for key, file in published.items():
            actual = files.sha256(paths[key])
            if file.sha256 and actual != file.sha256:
                raise UserError(
                    f"{file.url} has the SHA-256 {actual}, not {file.sha256}: the published file "
                    f"of {self.name} has changed"
                )
        return paths


def builder(
    data_set: DataSet,
    *,
    paths: Mapping[str, Path] | None = None,
    columns: Mapping[str, str] | None = None,
    data_dir: Path,
) -> RecordBuilder:
    """The builder of a dataset, under the dataset's name.

    It is not registered with `tensorflow-datasets`, which has datasets of the same names with
    other features. Prepared datasets are opened by their directory.

    Args:
        data_set: a published dataset or the user's own.
        paths: key -> local file of the dataset; None downloads all files.
        columns: field -> column of the user's own rows, to be recorded.
        data_dir: parent directory of the prepared datasets.
    """
    attributes = {
        "name": data_set.name,
        "data_set": data_set,
        "VERSION": tfds.core.Version(data_set.version),
        "__module__": __name__,
    }
    builder_class = type("Builder", (RecordBuilder,), attributes, skip_registration=True)
    return builder_class(paths=paths, columns=columns, data_dir=data_dir, file_format=FILE_FORMAT)
