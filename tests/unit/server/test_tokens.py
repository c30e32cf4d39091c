"""`/tokenize` and `/info`: what the model reads, and what is served."""

from gristmill_worker.encoder import Encoder
from serving import Serving


def test_the_tokens_of_a_text_are_what_its_vector_is_made_of(serving: Serving, tiny: Encoder) -> None:
    text = "The mill grinds grain."
    told = serving.http.post("/tokenize", json={"model": tiny.info.model, "input": text}).json()
    assert told["tokens"] == tiny.tokenize([text])[0].ids.tolist()
    assert (told["count"], told["max_model_len"]) == (len(told["tokens"]), 256)
    by_text, by_ids = (serving.embed(model=tiny.info.model, input=each).json() for each in (text, told["tokens"]))
    assert by_text["data"] == by_ids["data"]
    assert by_text["usage"]["prompt_tokens"] == told["count"]


def test_tokens_may_be_asked_for_as_vllms_clients_do_and_without_special_ones(serving: Serving, tiny: Encoder) -> None:
    body = {"model": tiny.info.model, "prompt": "grain"}
    whole = serving.http.post("/tokenize", json=body).json()["tokens"]
    bare = serving.http.post("/tokenize", json={**body, "add_special_tokens": False}).json()["tokens"]
    assert whole[1:-1] == bare


def test_a_text_of_any_length_is_counted_whole(serving: Serving, tiny: Encoder) -> None:
    told = serving.http.post("/tokenize", json={"model": tiny.info.model, "input": ["grain " * 1000, "a"]}).json()
    assert len(told["tokens"][0]) > 1000
    assert told["count"] == sum(map(len, told["tokens"]))


def test_the_template_counts_where_it_is_asked_for(serving: Serving, tiny: Encoder) -> None:
    body = {"model": tiny.info.model, "input": "grain", "input_type": "query"}
    filled = tiny.tokenize([tiny.info.templates.for_query("grain")])[0].ids.tolist()
    assert serving.http.post("/tokenize", json=body).json()["tokens"] == filled


def test_what_cannot_be_tokenized_here_is_refused_by_its_field(serving: Serving, tiny: Encoder) -> None:
    for body, field in (
        ({"model": "hash:16", "input": "a"}, "model"),
        ({"model": tiny.info.model}, "input"),
        ({"model": tiny.info.model, "input": "a", "prompt": "a"}, "input"),
        ({"model": tiny.info.model, "input": [1]}, "input[0]"),
    ):
        answer = serving.http.post("/tokenize", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


def test_the_server_says_what_it_serves(serving: Serving, tiny: Encoder) -> None:
    info = serving.http.get("/info").json()
    models = {each["id"]: each for each in info["models"]}
    assert models[tiny.info.model]["templates"]["query"] == "query: {text}"
    assert (models["hash:16"]["dimensions"], models["hash:16"]["takes_token_ids"]) == (16, False)
    assert models["overlap:64"]["task"] == "reranking"
    assert info["limits"]["max_inputs"] == 2048
