"""Sections about models: what each has done, how its batches are, what it is at."""

from __future__ import annotations

import time
from typing import Protocol

from gristmill_schemas import EncoderInfo
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.encoder import Encoder
from gristmill_worker.metering.meter import ModelMeter, Source
from gristmill_worker.metering.sections import Sheet
from gristmill_worker.pipeline.engine import Engine
from gristmill_worker.process.queries.counts import QueryCounts


class Metered(Protocol):
    """A model that encodes, in a worker or in a server."""

    @property
    def encoder(self) -> Encoder:
        """The model."""

    @property
    def batcher(self) -> Batcher:
        """The batcher of all who want vectors of it."""

    @property
    def meter(self) -> ModelMeter:
        """What they were given."""


def show_model(sheet: Sheet, metered: Metered) -> None:
    """What any model has done and does, wherever it is served."""
    info, batcher = metered.encoder.info, metered.batcher
    _show_encoding(sheet, info.model, metered.meter)
    show_info(sheet, info, metered.encoder.device, metered.encoder.dtype)
    show_busy(sheet, info.model, batcher.busy_since)
    sheet.put("gristmill_texts_queued", batcher.queued_texts, info.model)
    sheet.put("gristmill_batch_budget_tokens", batcher.budget_tokens, info.model)
    if (rate := batcher.tokens_per_s) is not None:
        sheet.put("gristmill_tokens_rate", rate, info.model)
    sheet.put("gristmill_model_sick", batcher.sick is not None, info.model)


def _show_encoding(sheet: Sheet, model: str, meter: ModelMeter) -> None:
    sheet.counts("gristmill_texts_total", meter.texts, model)
    sheet.counts("gristmill_tokens_total", meter.tokens, model)
    for source, encodes in meter.encodes.items():
        sheet.histogram("gristmill_encode_seconds", encodes, model, source)
    sheet.counts("gristmill_batches_total", meter.batches, model)
    sheet.counts("gristmill_batch_tokens_total", meter.batch_tokens, model)
    sheet.histogram("gristmill_batch_fill_ratio", meter.fill, model)
    for source, waits in meter.waits.items():
        sheet.histogram("gristmill_queue_wait_seconds", waits, model, source)


def show_info(sheet: Sheet, info: EncoderInfo, device: str, dtype: str) -> None:
    """What is served."""
    sheet.put("gristmill_model_info", 1, info.model, info.digest[:12], device, dtype)


def show_busy(sheet: Sheet, model: str, since: float | None) -> None:
    """Since when a batch is on the model."""
    sheet.put("gristmill_batch_running_seconds", 0.0 if since is None else time.monotonic() - since, model)


def show_engine(sheet: Sheet, engine: Engine) -> None:
    """What one engine of a worker has done with parcels."""
    model, meter = engine.info.model, engine.meter
    sheet.counts("gristmill_documents_total", meter.documents, model)
    sheet.counts("gristmill_document_tokens_total", meter.document_tokens, model)
    sheet.put("gristmill_chunks_total", meter.stored.all()["chunks"], model)
    sheet.put("gristmill_truncated_documents_total", meter.stored.all()["truncated"], model)
    sheet.counts("gristmill_dead_letters_total", meter.dead, model)
    sheet.counts("gristmill_attempts_total", meter.attempts, model)
    sheet.put("gristmill_retries_total", meter.retries.all()["retries"], model)
    sheet.put("gristmill_parcels_taken_over_total", meter.taken_over.all()["parcels"], model)
    for step, seconds in meter.steps.items():
        sheet.histogram("gristmill_stage_seconds", seconds, model, step)
    for call, seconds in meter.store.items():
        sheet.histogram("gristmill_store_seconds", seconds, model, call)
    sheet.counts("gristmill_store_errors_total", meter.store_errors, model)
    sheet.counts("gristmill_cache_lookups_total", meter.lookups, model, "collections")
    sheet.put("gristmill_task_threads", engine.busy, model)
    _show_idle(sheet, engine)


def _show_idle(sheet: Sheet, engine: Engine) -> None:
    idle = engine.idle.seconds()
    sheet.put("gristmill_busy_seconds_total", idle.pop("busy"), engine.info.model)
    for cause, seconds in idle.items():
        sheet.put("gristmill_idle_seconds_total", seconds, engine.info.model, cause)


def show_queries(sheet: Sheet, model: str, counts: QueryCounts) -> None:
    """What a query lane has done."""
    for fate, count in counts.all().items():
        sheet.put("gristmill_queries_total", count, model, fate)
    sheet.histogram("gristmill_query_seconds", counts.answers, model)
    sheet.histogram("gristmill_queue_wait_seconds", counts.waits, model, Source.INTERACTIVE)
