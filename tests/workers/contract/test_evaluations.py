"""Files of answers: what a worker writes is what worker and gateway read, and what is none is told from it."""

import json

import pytest

from workers.contract.evaluations import ChunkHead, answer_line, answers_key, merged, read_chunk, write_chunk

HEAD = ChunkHead("int8", "CPUExecutionProvider")
FAILED = {"code": "image_unreadable", "detail": "why"}


def answer(path: str, label: str | None) -> bytes:
    if label is None:
        return answer_line(path, "ant", error=FAILED)
    return answer_line(path, "ant", predicted=label, probability=0.5, of_label=0.25, figures=(1, 1, 0.4))


def test_a_file_has_the_json_that_other_releases_read() -> None:
    content = write_chunk(HEAD, [answer("a.png", "bee"), answer("b.png", None)])
    assert [json.loads(line) for line in content.splitlines()] == [
        {"precision": "int8", "provider": "CPUExecutionProvider"},
        {
            "path": "a.png",
            "label": "ant",
            "predicted": "bee",
            "probability": 0.5,
            "of_label": 0.25,
            "figures": [1, 1, 0.4],
            "error": None,
        },
        {
            "path": "b.png",
            "label": "ant",
            "predicted": None,
            "probability": None,
            "of_label": None,
            "figures": None,
            "error": FAILED,
        },
    ]
    head, lines = read_chunk(content)
    assert (head, [line["path"] for line in lines]) == (HEAD, ["a.png", "b.png"])
    assert answers_key("job_1", 2, 7) == "jobs/job_1/results/2/000007.jsonl"


@pytest.mark.parametrize("content", [b"", b"{", b"{}\n", b"[]\n", b'{"precision": "int8"}\n', b"\xff"])
def test_what_is_no_such_file_is_told(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_chunk(content)


def test_the_versions_answers_to_an_image_stand_in_one_line() -> None:
    files = [
        read_chunk(write_chunk(HEAD, [answer("a.png", first), answer("b.png", "bee")]))[1]
        for first in ("ant", None)
    ]
    lines = list(merged(files))
    assert [line["path"] for line in lines] == ["a.png", "b.png"]
    assert lines[0] == {
        "path": "a.png",
        "label": "ant",
        "answers": [
            {"label": "ant", "probability": 0.5, "of_label": 0.25, "error": None},
            {"label": None, "probability": None, "of_label": None, "error": FAILED},
        ],
    }
    assert list(merged(files, only_differing=True)) == lines[:1]
