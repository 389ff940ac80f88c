"""What an audit comes to, in sentences; every number is one of its levels."""

import math

from lgmamba.hosts.audit.found import Audit, Level
from lgmamba.hosts.audit.scores import CONTROLS


def answer(found: Audit) -> list[str]:
    """The plain answer: how far it reads, what repairs it, who needs the length, what was predicted."""
    L0, lengths = found.about["L0"], found.about["lengths"]
    return [
        _reads(found, L0, lengths),
        *_repairs(found, L0, lengths[-1]),
        *_recalls(found, L0, lengths),
        *_predicted(found, L0),
    ]


def breaks_at(found: Audit) -> int | None:
    """Shortest length read at which the model as it is predicts worse than from the last L0 tokens alone, by the interval."""
    return min((v.tokens for v in found.levels if v.remedy == "vanilla" and v.from_L0[1] > 0), default=None)


def _reads(found: Audit, L0: int, lengths: list[int]) -> str:
    longest, broken = found.level("vanilla", lengths[-1]), breaks_at(found)
    base = found.level("vanilla", L0).bits
    if broken is not None:
        at = found.level("vanilla", broken)
        return (
            f"**It breaks from {broken:,} tokens on** ({broken / L0:g} L0): reading them, it predicts the next tokens worse than from the "
            f"last {L0:,} alone, by {_bits(at.from_L0)} a token; at {lengths[-1]:,} tokens by {_bits(longest.from_L0)} (at L0: {base:.3f} bits)."
        )
    if longest.from_L0[2] < 0:
        return (
            f"**It does not break up to {lengths[-1]:,} tokens** ({lengths[-1] / L0:g} L0): what lies before the last {L0:,} tokens makes it "
            f"predict better, by {_bits(longest.from_L0, -1)} a token (at L0: {base:.3f} bits)."
        )
    return (
        f"**No break is shown up to {lengths[-1]:,} tokens** ({lengths[-1] / L0:g} L0), and no use of what lies before the last {L0:,}: "
        f"the difference is {_bits(longest.from_L0)} a token (at L0: {base:.3f} bits)."
    )


def _repairs(found: Audit, L0: int, T: int) -> list[str]:
    tried = [v for v in found.levels if v.tokens == T and v.remedy not in ("vanilla", *CONTROLS)]
    if not tried:
        return ["No remedy was tried."]
    control = min((found.level(c, T) for c in ("vanilla", *CONTROLS)), key=lambda v: v.bits)
    better = sorted((v for v in tried if v.from_control[2] < 0), key=lambda v: v.bits)
    if not better:
        best = min(tried, key=lambda v: v.bits)
        return [
            f"**At {T:,} tokens no remedy beats the best control**, which is `{control.remedy}` ({control.bits:.3f} bits). The best of the "
            f"{len(tried)} tried is `{best.remedy}`, {_worse(best)}."
        ]
    best = better[0]
    lines = [
        f"**At {T:,} tokens `{best.remedy}` is best**: {best.bits:.3f} bits a token, {_bits(best.from_control, -1)} below the best control, "
        f"`{control.remedy}`. {_told(best)}"
    ]
    free = next((v for v in better if v.mode == "stream"), None)
    if free is None:
        lines.append("No remedy that works without being told the length beats the best control here.")
    elif best.mode == "prefix":
        lines.append(f"The best that needs not be told the length is `{free.remedy}`: {free.bits:.3f} bits.")
    lines.append(
        f"{len(better)} of {len(tried)} remedies beat the best control. Many were tried on {found.about['windows']} windows of text: "
        "read a difference near 0 as none, and confirm the one you choose on other text."
    )
    return lines


def _recalls(found: Audit, L0: int, lengths: list[int]) -> list[str]:
    if found.passkeys is None:
        return []
    share = found.passkeys.share
    shares = ", ".join(f"{share('vanilla', T):.0%} at {T:,} tokens" for T in lengths)
    asked = f"Asked for a number told once, it is right in {shares}"
    within = share("vanilla", L0)
    if within is not None and within < 0.5:
        return [f"{asked}: it cannot do this within L0, so that recall says nothing of what lies beyond."]
    asked_of = dict.fromkeys(found.passkeys.columns["remedy"])
    right = {n: v for n in asked_of if (v := share(n, lengths[-1])) is not None}
    best = max(right, key=lambda n: right[n])
    return [f"{asked}; at {lengths[-1]:,} tokens best with `{best}`, {right[best]:.0%}."]


def _predicted(found: Audit, L0: int) -> list[str]:
    T = found.watched.fails_from
    if T is None:
        return [
            "By how long its modes remember, no layer's state should grow by a quarter beyond L0: none is expected to break."
        ]
    return [
        f"By how long its modes remember, some layer's state should be a quarter larger than at L0 from about {T:,} tokens on; whether that "
        "breaks it is what was measured above."
    ]


def _told(v: Level) -> str:
    needs = (
        "It must be told the length that will be read."
        if v.mode == "prefix"
        else "It needs not know how long the text will be."
    )
    return needs


def _worse(v: Level) -> str:
    if v.from_control[1] > 0:
        return f"worse by {_bits(v.from_control)}"
    return f"with a difference of {_bits(v.from_control)}, which may be none"


def _bits(difference: tuple[float, float, float], sign: int = 1) -> str:
    mean, low, high = (sign * v for v in difference)
    low, high = min(low, high), max(low, high)
    interval = "" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]"
    return f"{mean:+.3f}{interval} bits"
