"""What wrk does where a request depends on an answer: the same Lua for us and for others, as far as it goes.

Every operation has a body of its own. A reply must be the body of an operation that is under way, and ends
that: a wrong, second or missing reply is an error. ``done`` prints operations and errors behind the report.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping

from bench.load import BODY_BYTES, LoadResult, need_wrk, parse_wrk

_COMMON = f"""
local serial, outstanding = 0, {{}}
ops, bad = 0, 0
local function body()
  serial = serial + 1
  local text = string.format("%010d", serial) .. string.rep("x", {BODY_BYTES - 10})
  outstanding[text] = true
  return text
end
local function settled(text)
  if outstanding[text] then outstanding[text] = nil else bad = bad + 1 end
end
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function done(summary, latency, requests)
  local all, wrong = 0, 0
  for _, thread in ipairs(threads) do all = all + thread:get("ops"); wrong = wrong + thread:get("bad") end
  io.write(string.format("operations: %d in %d us, wrong: %d\\n", all, summary.duration, wrong))
end
"""

ROUND_TRIP = (
    _COMMON
    + """
local waits, next_request, place = {["Prefer"] = "wait=30"}, nil, nil
function request()
  local raw = next_request or wrk.format("POST", PATH, HEADERS, body())
  next_request = nil
  return raw
end
function response(status, headers, text)
  if status == 202 and headers["location"] then
    place = headers["location"]
    next_request = wrk.format("GET", place .. "/reply", waits)
  elseif status == 200 then
    settled(text)
    next_request = wrk.format("DELETE", place)
  elseif status == 204 then
    ops = ops + 1
  else
    bad = bad + 1
  end
end
"""
)
"""Submit, wait for the reply, close; a thread is one connection: wrk does not say whose answer it is."""

SUBMIT_AND_WAIT = (
    _COMMON
    + """
local prefer = {["Prefer"] = "wait=30"}
local done, head, tail = {}, 1, 0
function request()
  if head <= tail then
    local place = done[head]
    done[head] = nil
    head = head + 1
    return wrk.format("DELETE", place)
  end
  return wrk.format("POST", PATH, prefer, body())
end
function response(status, headers, text)
  if status == 200 then
    settled(text)
    tail = tail + 1
    done[tail] = headers["location"]
  elseif status == 204 then
    ops = ops + 1
  else
    bad = bad + 1
  end
end
"""
)
"""Submit and wait for the reply in one request, then close it; whichever connection is free closes."""

CALL = (
    _COMMON
    + """
function request() return wrk.format("POST", PATH, HEADERS, body()) end
function response(status, headers, text)
  if status == 200 then settled(text); ops = ops + 1 else bad = bad + 1 end
end
"""
)
"""One call that is answered with its own body."""


def scripted(
    url: str,
    path: str,
    script: str,
    connections: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    *,
    threads: int = 1,
) -> LoadResult:
    """Operations per second of a script above; latencies are those of requests."""
    fields = ",".join(f'["{name}"]="{value}"' for name, value in (headers or {}).items())
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(f'PATH = "{path}"\nHEADERS = {{{fields}}}\n{script}')
        file.flush()
        done = subprocess.run(
            [need_wrk(), f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency",
             "--timeout", "30s", "-s", file.name, url],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    result = parse_wrk(done.stdout)
    told = re.search(r"operations: (\d+) in (\d+) us, wrong: (\d+)", done.stdout)
    if told is None:
        raise SystemExit(f"bench: the script said nothing:\n{done.stdout}{done.stderr}")
    result.per_second = int(told.group(1)) / int(told.group(2)) * 1e6
    result.errors += int(told.group(3))
    return result
