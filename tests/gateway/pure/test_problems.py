"""Problem documents: one table for answers, docs and pages."""

import json
import re
from pathlib import Path

import pytest

from core.errors import PeerError
from core.pure import tsp
from gateway.errors import ProblemError
from gateway.pure import problems
from gateway.pure.answers import problem_of
from tests.support.sources import ROOT


def test_document_is_rfc_9457() -> None:
    """A problem has type, title, status, detail, instance and then its own members."""
    raw = problems.encode(problems.JOB_FAILED, 'a "quoted" reason', "/v1/jobs/x", {"attempts": 3})
    document = json.loads(raw)
    assert list(document) == ["type", "title", "status", "detail", "instance", "attempts"]
    assert document["type"] == "/problems#job-failed"
    assert document["status"] == 409


def test_every_type_is_a_heading_of_the_reference() -> None:
    """The checked-in page has each problem under its slug, and is what the table says."""
    page = (ROOT / "docs" / "reference" / "http-problems.md").read_text("utf-8")
    assert page == problems.markdown(), "run python -m gateway.http.openapi docs/reference/http-problems.md"
    headings = set(re.findall(r"^## (\S+)$", page, re.MULTILINE))
    assert headings == {kind.type.partition("#")[2] for kind in problems.KINDS}


def test_every_kind_that_is_raised_is_in_the_table() -> None:
    """No module uses a kind that the table lacks, and none in the table is unused."""
    names = {name for name, value in vars(problems).items() if isinstance(value, problems.ProblemKind)}
    assert {getattr(problems, name) for name in names} == set(problems.KINDS)
    used = "".join(path.read_text("utf-8") for path in Path(ROOT / "gateway").rglob("*.py"))
    assert not [name for name in names if f"problems.{name}" not in used]


def test_html_is_escaped() -> None:
    """Text of the table cannot become markup."""
    assert "<base64>" not in problems.sections()
    assert "&lt;base64&gt;" in problems.sections()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (tsp.NOT_FOUND, problems.NEVER_ISSUED),
        (tsp.GONE, problems.JOB_GONE),
        (tsp.UNAVAILABLE, problems.NODE_NOT_READY),
        (tsp.FULL, problems.STORE_FULL),
        (tsp.ERROR, problems.NODE_ERROR),
        (tsp.UNKNOWN, problems.NODE_ERROR),
    ],
)
def test_each_status_of_the_node_is_one_kind(status: bytes, kind: problems.ProblemKind) -> None:
    """The node's statuses map to kinds, with its words as the detail where they say more."""
    problem = problem_of([status, tsp.encode_head(tsp.ErrorHead("why"))])
    assert problem.kind is kind


@pytest.mark.parametrize("answer", [[], [b""], [b"2"], [b"xyz"], [b"404"], [b"501", tsp.encode_head(["x"])]])
def test_nonsense_from_the_node_is_the_nodes_fault(answer: list[bytes]) -> None:
    """An answer without a known status or head is a PeerError, never a client's problem."""
    with pytest.raises(PeerError):
        problem_of(answer)


def test_a_failed_job_says_how() -> None:
    """A conflict carries attempts and last error."""
    status = tsp.JobStatus(b"k" * 16, "echo", "failed", 3, 1, "", 4, 0, 0, 3, "exit status 1")
    problem = problem_of([tsp.CONFLICT, tsp.encode_head(status)])
    assert isinstance(problem, ProblemError)
    assert problem.kind is problems.JOB_FAILED
    assert problem.extra is not None
    assert (problem.extra["attempts"], problem.extra["last_error"]) == (3, "exit status 1")
    assert "exit status 1" in problem.detail
