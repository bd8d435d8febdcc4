"""The results as a file for programs: exercism's `results.json`, version 3.

https://exercism.org/docs/building/tooling/test-runners/interface
"""

import json
from typing import Any

from check.running import judges
from check.verdict import Verdict


def entry(name: str, failed: Any, printed: str = "") -> dict[str, Any]:
    """One test: its name, how it ended, and with what message."""
    found = {"name": name, "status": "pass", "test_code": name}
    if failed:
        told = failed["told"]
        known = told["kind"] == "CheckFailed"
        found["status"] = "fail" if known else "error"
        parts = [told["what"]]
        parts += [f"expected {told['wanted']}"] if told["wanted"] else []
        parts += [f"got {told['got']}"] if told["got"] else []
        found["message"] = ", ".join(parts)
    if printed:
        found["output"] = printed
    return found


def of_verdicts(verdicts: list[Verdict]) -> str:
    """Every check of the topics as a test, named TOPIC: WHAT IT SAYS."""
    tests, broken = [], ""
    for verdict in verdicts:
        report, name = verdict.report, verdict.topic.id
        if verdict.state == "todo":  # no failure, as in `of_states`
            continue
        for end in ("broken", "ended"):
            if report.get(end):
                broken = broken or f"{name}: {report[end]['what']}"
        tests += [
            entry(
                f"{name}: {check['title']}",
                None if check["passed"] else check,
                report["printed"],
            )
            for check in report["checks"]
            if not check["passed"] or judges(check)
        ]
    status = "fail" if any(v.bad for v in verdicts) else "pass"
    data: dict[str, Any] = {"version": 3, "status": status, "tests": tests}
    if broken:
        data |= {"status": "error", "message": broken}
    data["topics"] = {v.topic.id: v.state for v in verdicts}
    return json.dumps(data, indent=1)


def of_states(states: dict[str, str]) -> str:
    """Every topic that was tried as a test; all of them under `topics`."""
    tests = []
    for name, state in states.items():
        if state == "todo":
            continue
        status = "pass" if state in ("pass", "stale") else "fail"
        found = {"name": name, "status": status, "test_code": name}
        if status == "fail":
            found["message"] = f"{state}: python -m check {name}"
        tests.append(found)
    bad = any(test["status"] == "fail" for test in tests)
    data = {
        "version": 3,
        "status": "fail" if bad else "pass",
        "tests": tests,
        "topics": states,
    }
    return json.dumps(data, indent=1)
