"""From a URL to a remote encoder: what the server serves, and what kind of model that is."""

from __future__ import annotations

import hashlib
import logging
from typing import Any, Final

import httpx

from gristmill.proxies import Way
from gristmill_schemas import EncoderInfo, Pooling
from gristmill_schemas.errors import EncodingFailed, GristmillError, InvalidInput, ModelUnavailable
from gristmill_schemas.redaction import remember_url, without_secrets
from gristmill_worker.encoder.model.families import family_of
from gristmill_worker.encoder.model.recipe import Overrides
from gristmill_worker.encoder.remote.api import Answer, Api
from gristmill_worker.encoder.remote.counting import Counting, Estimate, Exact, agree, tokenizer_of
from gristmill_worker.encoder.remote.encoder import MAX_TOKENS, RemoteEncoder
from gristmill_worker.encoder.remote.refusals import NoSuchModel
from gristmill_worker.encoder.remote.window import probed_window

log = logging.getLogger(__name__)

#: Seconds for one answer; a server that is loaded beyond that should say 429 or 503.
_ANSWER_S: Final = 120.0
_CONNECT_S: Final = 5.0
#: What a server is asked first.
_PROBE: Final = "The old mill by the river grinds the grain of the whole valley into flour, day after day."
#: Its words. Other counts of it, such as one for each character or each text, are not between once and twice that.
_WORDS: Final = len(_PROBE.split())
#: Names of models shown where one was mistyped.
_NAMED: Final = 10


def open_remote(
    url: str, *, overrides: Overrides | None = None, api_key: str | None = None, budget_tokens: int | None = None
) -> RemoteEncoder:
    """Connect to `http(s)://HOST/v1#MODEL`; without `#MODEL` the server must serve exactly one.

    The digest is that of the model's name: servers do not show their weights, so who names the model vouches for it.

    Raises:
        Unavailable: the server is away, overloaded, or answers what is no answer.
        ModelUnavailable: it does not serve this model, or refuses to encode one word with it.
        InvalidInput: it serves several, and none was named.
    """
    base, _, name = url.partition("#")
    api = Api(open_client(base, api_key), name)
    try:
        api.name = name or _only_model(api)
        probed = _probe(api)
        info = _info(api, overrides or Overrides(), probed.vectors.shape[1])
        counting, usage_counts = _counting(api, info, overrides or Overrides(), probed.tokens)
    except Exception:
        api.close()
        raise
    return RemoteEncoder(api, info, counting, budget_tokens=budget_tokens or MAX_TOKENS, usage_counts=usage_counts)


def open_client(base: str, api_key: str | None) -> httpx.Client:
    """A client that logs and says its address without a login, which goes into a header like the key."""
    address = _address(base)
    login = httpx.BasicAuth(address.username, address.password) if address.userinfo else None
    key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    shown = address.copy_with(username=None, password=None, path=address.path.rstrip("/") + "/")
    timeout = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S)
    way = Way(address.scheme, address.host, address.port or (443 if address.scheme == "https" else 80))
    return httpx.Client(base_url=shown, headers=key, auth=login, timeout=timeout, transport=way)


def _address(base: str) -> httpx.URL:
    remember_url(base)
    try:
        address = httpx.URL(base)
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidInput(
            f"model: expected a URL such as http://host:8000/v1#NAME, got {base!r}", field="model"
        ) from without_secrets(error)
    if not address.host or address.query:
        raise InvalidInput(
            f"model: expected a URL such as http://host:8000/v1#NAME, with a host and without a query, got {base!r}; a key "
            "goes into GRISTMILL_REMOTE_API_KEY",
            field="model",
        )
    return address


def _probe(api: Api) -> Answer:
    """What the server makes of a sentence: the size of its vectors, and how it counts tokens."""
    try:
        return api.embed([_PROBE])
    except NoSuchModel as error:
        raise ModelUnavailable(f"{error}{_served(api)}", model=api.name) from error
    except EncodingFailed as error:
        raise ModelUnavailable(f"{api.name}: {error}; check the model's name after #{_served(api)}") from error


def _served(api: Api) -> str:
    """What a server says it serves, to choose from, where it says so."""
    try:
        names = api.models()
    except GristmillError:
        return ""
    return f": it serves {', '.join(sorted(names)[:_NAMED])}" if names else ""


def _info(api: Api, overrides: Overrides, dimensions: int) -> EncoderInfo:
    family = family_of(api.name)
    fields: dict[str, Any] = {"templates": family.templates} if family else {}
    if overrides.templates:
        fields["templates"] = overrides.templates
    return EncoderInfo(
        # As it was given, since that is the name by which applications ask for it; without a login.
        model=f"{api.address}#{api.name}",
        digest="remote-" + hashlib.sha256(api.name.encode()).hexdigest()[:25],
        pooling=overrides.pooling or (family.pooling if family else Pooling.MEAN),
        dimensions=dimensions,
        min_dimensions=family.min_dimensions if family else None,
        normalize=overrides.normalize is not False,
        max_tokens=overrides.max_tokens or (family and family.max_tokens) or 8_192,
        instruction_aware=bool(family and family.instruction_aware),
        **fields,
    )


def _counting(api: Api, info: EncoderInfo, overrides: Overrides, counted: int | None) -> tuple[Counting, bool]:
    """How lengths are found for this server, and whether what it counts (`counted`, in the probe) are the tokens it read."""
    window = probed_window(api, info.max_tokens)
    are_tokens = counted is not None and _WORDS <= counted <= 2 * _WORDS
    tokenizer = tokenizer_of(api.name)
    if tokenizer is None:
        return Estimate(window.silent), are_tokens
    here = tokenizer.tokenize([_PROBE])[0].n_tokens
    agreed = counted is not None and agree(counted, here)
    if are_tokens and not agreed:
        log.warning(
            "%s at %s counts %s tokens in a sentence, and the tokenizer of that name %d: it is another model's, and lengths "
            "are estimated; serve the model under its own name",
            api.name,
            api.address,
            counted,
            here,
        )
        return Estimate(window.silent), are_tokens
    family = family_of(api.name)
    known = [
        each for each in (window.silent, window.stated, overrides.max_tokens, family and family.max_tokens) if each
    ]
    template = info.templates.document.replace("{text}", "")
    # What the server adds to each text and `tokenizer.json` does not, such as an end of text.
    added = max(0, counted - here) if counted is not None and agreed else 0
    return Exact(tokenizer, min(known) - added if known else None, template=template), agreed


def _only_model(api: Api) -> str:
    try:
        names = api.models()
    except EncodingFailed as error:
        raise ModelUnavailable(f"{error}; name the model: URL#MODEL") from error
    if len(names) != 1:
        raise InvalidInput(f"model: {api.address} serves {names}; say which: URL#MODEL")
    return names[0]
