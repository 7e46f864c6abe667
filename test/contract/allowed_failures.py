"""Every failure of schemathesis that is no fault, with its reason: what OpenAPI cannot say of Chute."""

from dataclasses import dataclass
from typing import Any, Callable


@dataclass(frozen=True)
class AllowedFailure:
    """Failures of these classes are no faults of the contract or the gateway where `when` holds of a case and its reply."""

    reason: str
    failures: frozenset[str]
    when: Callable[[Any, Any], bool]


def header(headers, name):
    """The first value of a header field, whatever the case of its name; '' where there is none."""
    for key, value in (headers or {}).items():
        if key.lower() == name:
            return value[0] if isinstance(value, list) else str(value)
    return ""


def is_problem(response, *codes):
    """Whether a reply is one of these problems."""
    if not header(response.headers, "content-type").startswith("application/problem+json"):
        return False
    return response.json().get("code") in codes


def is_accepted_in_part(response):
    """Whether a reply says which events it refuses, and takes the others."""
    if response.status_code not in (200, 202):
        return False
    if header(response.headers, "chute-error"):
        return True
    return response.content.startswith(b"{") and response.json().get("rejected", 0) > 0


allowed_failures = [
    AllowedFailure(
        reason="OpenAPI cannot say that a header of the request (Prefer: return=minimal) leaves the body of a reply out.",
        failures=frozenset({"MissingContentType", "MalformedJson"}),
        when=lambda case, response: "return=minimal" in header(case.headers, "prefer").lower()
        and response.status_code in (200, 202)
        and response.content == b"",
    ),
    AllowedFailure(
        reason="Of several events the valid ones are accepted, and the reply tells which are not.",
        failures=frozenset({"AcceptedNegativeData"}),
        when=lambda case, response: is_accepted_in_part(response),
    ),
    AllowedFailure(
        reason="Whether a stream reads an Idempotency-Key, and needs one, is the stream's to say and not the path's; a key or an "
        "id that stands for another body is known after the first request only.",
        failures=frozenset({"RejectedPositiveData"}),
        when=lambda case, response: is_problem(
            response, "invalid_idempotency_key", "idempotency_key_missing", "idempotency_key_reused", "id_conflict"
        ),
    ),
    AllowedFailure(
        reason="413 is the refusal of what is too large or too many, which schemathesis does not expect.",
        failures=frozenset({"AcceptedNegativeData"}),
        when=lambda case, response: is_problem(response, "too_many_fields", "too_many_events", "body_too_large"),
    ),
    AllowedFailure(
        reason="Node's parser knows the methods that its release has, and ends a connection with any other.",
        failures=frozenset({"UnsupportedMethodResponse"}),
        when=lambda case, response: is_problem(response, "invalid_request") and b"HPE_INVALID_METHOD" in response.content,
    ),
]
