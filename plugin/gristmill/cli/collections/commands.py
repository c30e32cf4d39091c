"""`gristmill collections create|list|show|delete`: what collections are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from gristmill import (
    ChunkBy,
    ChunkContext,
    CollectionSpec,
    IndexState,
    IndexStatus,
    Instruction,
    InvalidInput,
    LongTexts,
)
from gristmill.cli.collections.payload import TYPES, parse_indexes
from gristmill.cli.layout import counted, fields, flat, listing, moment
from gristmill.cli.output import JsonFlag, aside, confirm, console, print_json, said, say
from gristmill.startup import open_client

app = typer.Typer()
commands = typer.Typer(help="Create, list, show and delete collections.", no_args_is_help=True)
app.add_typer(commands, name="collections")


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the collection in Qdrant.")],
    model: Annotated[
        str | None, typer.Option(help="Model that a running worker serves; default GRISTMILL_MODEL.")
    ] = None,
    dimensions: Annotated[int | None, typer.Option(help="Shorter vectors, where the model declares them.")] = None,
    force_dimensions: Annotated[bool, typer.Option(help="Cut although the model does not declare it.")] = False,
    text_key: Annotated[str | None, typer.Option(help="Payload key of the text; default `text`.")] = None,
    long_texts: Annotated[LongTexts | None, typer.Option(help="What happens to long texts; default `chunk`.")] = None,
    chunk_size: Annotated[int | None, typer.Option(help="Tokens per chunk; default 512.")] = None,
    chunk_overlap: Annotated[
        int | None, typer.Option(help="Tokens that neighbours share; default an eighth, 64 at most.")
    ] = None,
    chunk_by: Annotated[ChunkBy | None, typer.Option(help="Where long texts are cut; default `text`.")] = None,
    chunk_context: Annotated[
        ChunkContext | None, typer.Option(help="What the model reads above each chunk; default `none`.")
    ] = None,
    title_key: Annotated[
        str | None, typer.Option(help="Field of the metadata that holds the title; default `title`.")
    ] = None,
    instruction: Annotated[
        list[str] | None, typer.Option(help="Register an instruction: name=sentence. Repeat for more.")
    ] = None,
    lens: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SENTENCE",
            help="A further vector of every text, under this document instruction; `search --lens NAME`. Repeat for more.",
        ),
    ] = None,
    lens_query: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SENTENCE", help="What queries of a lens are encoded for, unless they say."),
    ] = None,
    index: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=TYPE", help=f"Index a field of the metadata: {TYPES}. Repeat for more."),
    ] = None,
    keyword: Annotated[
        bool | None,
        typer.Option(help="Keep words beside vectors, for `search --mode hybrid`; default yes."),
    ] = None,
    tenants: Annotated[
        bool | None,
        typer.Option(help="Keep tenants apart: every document needs one, and every search names one; default no."),
    ] = None,
    quantization: Annotated[
        str | None, typer.Option(help="Smaller vectors for searching: int8, binary, 1.5bit, 2bit or product.")
    ] = None,
    hnsw_m: Annotated[int | None, typer.Option(help="Edges per node of the graph; Qdrant's default 16.")] = None,
    hnsw_ef_construct: Annotated[int | None, typer.Option(help="Neighbours looked at while building; 100.")] = None,
    on_disk: Annotated[bool | None, typer.Option(help="Keep vectors on disk.")] = None,
    on_disk_payload: Annotated[bool | None, typer.Option(help="Keep texts and metadata on disk.")] = None,
    shards: Annotated[int | None, typer.Option(help="Parts, on a cluster.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Copies of each part, on a cluster.")] = None,
    write_consistency: Annotated[int | None, typer.Option(help="Copies that must have a write.")] = None,
    bulk: Annotated[
        bool, typer.Option("--bulk", help="Put its index off, for an hour and while it is loaded; see `finish-bulk`.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Give an existing collection this chunking and these instructions.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Create a collection. One that exists must be as asked for; what is not given is not compared."""
    policy = {
        "long_texts": long_texts,
        "size": chunk_size,
        "overlap": chunk_overlap,
        "by": chunk_by,
        "context": chunk_context,
        "title_key": title_key,
    }
    graph = {"m": hnsw_m, "ef_construct": hnsw_ef_construct}
    given = {name: value for name, value in policy.items() if value is not None}
    with open_client(aside) as client:
        spec = client.create_collection(
            name,
            model,
            dimensions=dimensions,
            force_dimensions=force_dimensions,
            text_key=text_key,
            chunking=given or None,
            instructions=[_instruction(text) for text in instruction] if instruction else None,
            keyword=keyword,
            lenses=parse_lenses(lens or (), lens_query or ()) if lens or lens_query else None,
            tenants=tenants,
            quantization=quantization,
            hnsw={name: value for name, value in graph.items() if value is not None} or None,
            on_disk=on_disk,
            on_disk_payload=on_disk_payload,
            shards=shards,
            replicas=replicas,
            write_consistency=write_consistency,
            indexes=parse_indexes(index, "index") if index else None,
            update=update,
        )
        if bulk:
            spec = client.begin_bulk(name)
    _show(spec, None, as_json)


def _instruction(text: str) -> Instruction:
    name, sentence = _pair("instruction", text)
    return Instruction(name=name, text=sentence)


def parse_lenses(lenses: Sequence[str], queries: Sequence[str]) -> dict[str, dict[str, str]]:
    """`name=sentence` of each lens, and of those with an instruction of their queries, for `create_collection`."""
    documents = [_pair("lens", each) for each in lenses]
    found = {name: {"document": sentence} for name, sentence in documents}
    if len(found) < len(documents):
        raise InvalidInput(
            f"lens: expected each name once, got {', '.join(name for name, _ in documents)}", field="lens"
        )
    for name, sentence in (_pair("lens-query", each) for each in queries):
        if name not in found:
            known = ", ".join(found) or "none"
            raise InvalidInput(f"lens-query: expected the name of a lens ({known}), got {name!r}", field="lens-query")
        found[name]["query"] = sentence
    return found


def _pair(option: str, text: str) -> tuple[str, str]:
    name, separator, sentence = text.partition("=")
    if not separator:
        raise InvalidInput(f"{option}: expected name=sentence, got {text!r}", field=option)
    return name, sentence


@commands.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List Gristmill's collections."""
    with open_client(aside, redis=False) as client:
        rows = [(spec, client.collections.count(spec.name)) for spec in client.collections.list()]
    if as_json:
        print_json({"collections": [spec.model_dump(mode="json") | {"points": count} for spec, count in rows]})
    else:
        show_collections(rows)


def show_collections(rows: Sequence[tuple[CollectionSpec, int]]) -> None:
    """Collections for people, with how many points each holds."""
    if not rows:
        say("no collections yet: `gristmill ingest FILE… -c NAME` makes one, or `gristmill collections create`")
        return
    told = [(spec.name, count, spec.space.dimensions, spec.space.model) for spec, count in rows]
    listing(["collection", "points", "dimensions", "model"], told)


@commands.command()
def show(name: str, as_json: JsonFlag = False) -> None:
    """Show one collection."""
    with open_client(aside, redis=False) as client:
        spec, points = client.collections.get(name), client.collections.count(name)
        _show(spec, points, as_json, client.collections.index_status(name))


def _show(spec: CollectionSpec, points: int | None, as_json: bool, index: IndexStatus | None = None) -> None:
    if as_json:
        more = {"points": points, "index": index and index.model_dump(mode="json", exclude={"collection"})}
        told = {name: value for name, value in more.items() if value is not None}
        print_json(spec.model_dump(mode="json") | {"fingerprint": spec.fingerprint} | told)
    else:
        show_collection(spec, points, index)


def show_collection(spec: CollectionSpec, points: int | None, index: IndexStatus | None = None) -> None:
    """One collection's description for people."""
    holds = "" if points is None else f": {counted(points, 'point')}"
    say(f"[bold]{said(spec.name)}[/]{holds}")
    console.print()
    fields([*_properties(spec), *_indexing(spec, index), *_views(spec), *map(_told, spec.instructions)])


def _indexing(spec: CollectionSpec, index: IndexStatus | None) -> Iterator[tuple[str, object]]:
    if spec.bulk_since is not None:
        yield "in bulk since", f"{moment(spec.bulk_since)}: searches are right, and slow, until it ends"
    if index is not None and index.points:
        yield "index", f"{index.state}, {index.indexed:,} of {counted(index.points, 'point')} in it"
    if index is not None and index.state is IndexState.FAILED:
        yield "", index.problem


def _properties(spec: CollectionSpec) -> Iterator[tuple[str, object]]:
    if spec.physical != spec.name:
        yield "alias of", spec.physical
    yield from flat(spec.space.model_dump(mode="json", exclude={"model_digest"}))
    yield "fingerprint", spec.fingerprint
    yield from flat(
        spec.model_dump(
            mode="json", exclude={"name", "physical", "space", "lenses", "instructions", "format", "bulk_since"}
        )
    )


def _views(spec: CollectionSpec) -> Iterator[tuple[str, object]]:
    for lens in spec.lenses:
        yield f"lens {lens.name}", lens.document
        if lens.query:
            yield "  its queries", lens.query


def _told(instruction: Instruction) -> tuple[str, object]:
    retired = ", retired" if instruction.retired_at else ""
    return f"instruction {instruction.label}{retired}", instruction.text


@commands.command()
def delete(
    name: str,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete a collection with all its points."""
    with open_client(aside) as client:
        count = client.collections.count(client.collections.get(name).name)
        if not yes:
            confirm(f"Delete collection {name!r} with {counted(count, 'point')}?")
        client.collections.delete(name)
    if as_json:
        print_json({"deleted": name, "points": count})
    else:
        say(f"deleted {said(name)} with {counted(count, 'point')}")
