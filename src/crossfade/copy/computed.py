"""Copied rows of a table whose plan holds SQL: read like any other, asked about on the target, then converted.

The target's connection is in the middle of a COPY meanwhile, so the questions go over another one. Refuses to know
where rows come from and go to. The invariant: the evaluator is the stream's, so that copy and stream take the same rows
and compute the same values.
"""

from __future__ import annotations

from collections.abc import Mapping

from crossfade.catalog import ReplicaIdentity
from crossfade.mapping.plan import TablePlan
from crossfade.pgoutput.messages import Form, Relation, RelationColumn
from crossfade.session.connect import Connection
from crossfade.target.evaluate import Evaluator
from crossfade.target.pipeline import Pipeline
from crossfade.wire import derive
from crossfade.wire.copycodec import CopyCodec
from crossfade.wire.encode import Encoder
from crossfade.wire.fold import Rows
from crossfade.wire.idstate import IdState
from crossfade.wire.remarks import Remarks
from crossfade.wire.zones import Zone


class ComputedCodec:
    """What `CopyCodec` is for other tables; `derived` comes between `read` and the rest."""

    def __init__(
        self,
        plan: TablePlan,
        form: Form,
        ids: Mapping[str, IdState],
        zones: Mapping[str, Zone],
        asking: Connection,
    ) -> None:
        reading = derive.reading_plan(plan)
        columns = tuple(
            RelationColumn(column.name, column.type_oid, column.typmod, is_key=False)
            for column in plan.source_columns
            if column.name in plan.used
        )
        relation = Relation(plan.source_oid, plan.source, ReplicaIdentity.FULL, columns)
        self._reader = CopyCodec(reading, form, {}, {})
        self._evaluator = Evaluator(Pipeline(asking), relation, plan, form)
        self._encoder = Encoder(derive.extended_relation(relation, plan), derive.extended_plan(plan), form, ids, zones)
        self.header = self._encoder.header
        self.trailer = self._encoder.trailer

    def read(self, block: list[bytes]) -> Rows:
        """As `CopyCodec.read`."""
        return self._reader.read(block)

    async def derived(self, rows: Rows) -> Rows:
        """Those rows that the condition takes, with what is computed of them. Raises RowRefused."""
        return await self._evaluator.derived(rows)

    def ids_in(self, rows: Rows, into: Mapping[str, list[bytes]]) -> None:
        """As `CopyCodec.ids_in`."""
        self._encoder.old_ids(rows, into, into)

    def convert(self, rows: Rows, remarks: Remarks) -> bytes:
        """As `CopyCodec.convert`."""
        return self._encoder.copy_data(rows, 0, len(rows.offsets), remarks)
