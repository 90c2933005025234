"""Loaded by schemathesis: how to write NDJSON, and what no answer may be."""

from typing import Any

import schemathesis

DEFECTS = (500, 502)
"""503 and 507 are declared states of the world; these would be our own mistakes."""


@schemathesis.serializer("application/x-ndjson")  # type: ignore[untyped-decorator,unused-ignore]
def ndjson(_context: Any, value: Any) -> Any:
    """A string as it is. Whatever else the schema forbids would be a line as well: no line is sent then."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else b"\n"


@schemathesis.check  # type: ignore[untyped-decorator,unused-ignore]
def no_defect(_context: Any, response: Any, _case: Any) -> None:
    """No answer is a defect of gateway or node, and every error is a problem document."""
    assert response.status_code not in DEFECTS, response.text
    if response.status_code >= 400 and response.request.method != "HEAD":
        assert response.headers["content-type"] == ["application/problem+json"]
