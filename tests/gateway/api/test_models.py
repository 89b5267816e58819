from channels.db import database_sync_to_async

from gateway.api.answer_shapes import ListedModel, ModelList
from gateway.api.handler import DataPlaneHandler
from gateway.runtime import Runtime
from tests.gateway.api.asgi_client import AsgiClient
from tests.gateway.api.serving import add_model, make_key


async def add(process: Runtime, name: str) -> None:
    await database_sync_to_async(add_model)(name)
    await process.refresh()


async def test_it_lists_the_models(client: AsgiClient):
    reply = await client.get("/v1/models")
    ModelList.model_validate(reply.json)
    assert [model["id"] for model in reply.json["data"]] == ["demo"]


async def test_a_key_sees_only_its_own_models(process: Runtime):
    await add(process, "hidden")
    assert "hidden" in process.catalog.models
    key = await database_sync_to_async(make_key)(models=("demo",))
    client = AsgiClient(DataPlaneHandler(), key)
    assert [model["id"] for model in (await client.get("/v1/models")).json["data"]] == ["demo"]
    hidden, absent = await client.get("/v1/models/hidden"), await client.get("/v1/models/absent")
    assert (hidden.status, hidden.error["code"]) == (404, "model_not_found")
    assert hidden.error["message"].replace("hidden", "absent") == absent.error["message"]


async def test_it_shows_one_model(client: AsgiClient):
    reply = await client.get("/v1/models/demo")
    ListedModel.model_validate(reply.json)
    assert reply.json["id"] == "demo"


async def test_an_alias_shows_its_model(client: AsgiClient):
    assert (await client.get("/v1/models/default")).json["id"] == "demo"


async def test_a_name_may_hold_slashes(client: AsgiClient, process: Runtime):
    await add(process, "acme/model-7b")
    assert (await client.get("/v1/models/acme/model-7b")).json["id"] == "acme/model-7b"
