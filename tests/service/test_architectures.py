"""`/v1/architectures` over the real service: pages, search, one architecture, and no torch for any of it."""

from collections.abc import Iterator

import httpx
import pytest
from support.stack import Stack


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=20) as http:
        yield http


def test_the_pages_hold_the_whole_zoo_once(client: httpx.Client) -> None:
    names: list[str] = []
    cursor = None
    while True:
        page = client.get(
            "/v1/architectures", params={"limit": 200, **({"cursor": cursor} if cursor else {})}
        ).json()
        names += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(names) == len(set(names)) > 1400
    assert names[0] == "lenet5"


def test_a_search_is_paged_too(client: httpx.Client) -> None:
    first = client.get("/v1/architectures", params={"search": "mobilenet ours", "limit": 3}).json()
    assert [item["name"] for item in first["items"]] == ["mobilenet_v1", "mobilenet_v1_025", "mobilenet_v1_050"]
    rest = client.get(
        "/v1/architectures", params={"search": "mobilenet ours", "limit": 3, "cursor": first["next_cursor"]}
    ).json()
    assert [item["name"] for item in rest["items"]] == ["mobilenet_v1_075"]
    assert rest["next_cursor"] is None


def test_one_architecture_comes_with_weights_and_layers(client: httpx.Client) -> None:
    shown = client.get("/v1/architectures/mobilenet_v1_025").json()
    assert shown["weights"][0]["metrics"] == {"acc@1": 50.6}
    assert shown["layers"][0]["kind"] == "Conv2d"
    assert shown["totals"]["parameters"] == 470_072
    assert shown["departures"]


def test_timms_names_hold_a_slash(client: httpx.Client) -> None:
    assert client.get("/v1/architectures/timm/resnet18").json()["totals"]["parameters"] == 11_689_512


def test_an_unknown_name_and_a_foreign_cursor_are_told_apart(client: httpx.Client) -> None:
    unknown = client.get("/v1/architectures/resnet81")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_architecture")
    assert "resnet18" in unknown.json()["detail"]
    foreign = client.get("/v1/architectures", params={"cursor": "nothing"})
    assert (foreign.status_code, foreign.json()["code"]) == (422, "invalid_cursor")
