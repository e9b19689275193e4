"""What `formats_270m` found: as rows with every sample, as limits that are kept or not, as tables for people."""

from __future__ import annotations

import statistics
from typing import Any

from edge import records
from edge.records import Artifact, Json

BASE = ("gguf", "f16")  # what ratios are to
# What the project promises on two idle cores.
EXPORT_S, EXPORT_BYTES, INT8_TFLITE_BYTES, SHARE_OF_PEER = 360.0, 8e9, 285e6, 0.5


def new_row(artifact: Artifact) -> Json:
    """A file's runs, none yet. Rates are in tokens a second; all lists have a value a round."""
    lists: dict[str, list[Any]] = {
        k: [] for k in ("prefill", "decode", "first_token_s", "load_s", "peak_rss_bytes", "load_average")
    }
    return {"format": artifact.format, "quantisation": artifact.quantisation, **lists, "round": []}


def add(row: Json, took: records.Measurement, n: int) -> None:
    """One measurement of one prompt. What failed is a row without that round."""
    if took.error:
        row["error"] = took.error["message"]
        return
    row["runtime"], row["threads"], row["settings"] = took.runtime_version, took.threads, took.settings
    for s in took.samples:
        if s.error:
            row["error"] = s.error
        elif s.prompt_tokens and s.prefill_s and s.completion_tokens and s.decode_s:
            row["round"].append(n)
            row["prompt_tokens"], row["completion_tokens"] = s.prompt_tokens, s.completion_tokens
            row["prefill"].append(s.prompt_tokens / s.prefill_s)
            row["decode"].append(s.completion_tokens / s.decode_s)
            row["first_token_s"].append(s.first_token_s)
            row["load_s"].append(took.load_s)
            row["peak_rss_bytes"].append(took.peak_rss_bytes)
            row["load_average"].append(took.load_average_before)


def limits(found: Json) -> list[Json]:
    """[{"what", "found", "limit", "unit", "kept"}] of the steps that were done."""
    made = found["export"]
    rows = [
        _limit("all exports", made["seconds"], EXPORT_S, "s"),
        _limit("memory of all exports together, at the peak", made["peak_rss_bytes"] / 1e9, EXPORT_BYTES / 1e9, "GB"),
    ]
    sizes = [a["bytes"] for a in made["artifacts"] if (a["format"], a["quantisation"]) == ("tflite", "int8")]
    rows += [_limit("int8 TFLite", size / 1e6, INT8_TFLITE_BYTES / 1e6, "MB") for size in sizes]
    peer = found.get("peer", {})
    if "theirs" in peer:
        share = peer["ours"]["seconds"] / peer["theirs"]["seconds"]
        rows.append(_limit("four .litertlm, of litetune's time", share, SHARE_OF_PEER, ""))
    return rows


def _limit(what: str, value: float, limit: float, unit: str) -> Json:
    return {"what": what, "found": value, "limit": limit, "unit": unit, "kept": value <= limit}


def tables(result: Json) -> str:
    parts = [_exports(result["export"]), _runs(result), _proofs(result), _peer(result.get("peer"))]
    parts += [_limits(result), *(f"failed: {error}" for error in result["errors"])]
    return "\n\n".join(part for part in parts if part)


# --- exports ----------------------------------------------------------------------------------------------------------


def _exports(made: Json) -> str:
    head = f"{'':30}{'MB':>8}{'export s':>10}{'its worker GB':>15}"
    lines = [head]
    for a in made["artifacts"]:
        peak = (a["export_peak_rss_bytes"] or 0) / 1e9
        lines.append(f"{_name(a['kind'], a['quantisation'])}{a['bytes'] / 1e6:8.1f}{a['export_s']:10.1f}{peak:15.2f}")
    lines += [f"not made: {lack['what']}: {lack['why']}" for lack in made["missing"]]
    lines += ["", f"workers, seconds from the start{'':>9}{'from':>6}{'to':>6}{'peak GB':>9}"]
    for p in sorted(made["processes"], key=lambda p: float(p["begin_s"])):
        lines.append(f"  {p['name']:38}{p['begin_s']:6.0f}{p['end_s']:6.0f}{p['peak_rss_bytes'] / 1e9:9.2f}")
    at = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in made["at_peak"].items())
    lines += ["", f"all of it: {made['seconds']:.0f} s; resident together at most {made['peak_rss_bytes'] / 1e9:.2f} GB "
              f"({at}); load average {_loads(made)}"]  # fmt: skip
    return "\n".join(lines)


def _name(kind: str, quantisation: str) -> str:
    return f"{kind:12}{quantisation:18}"


def _loads(step: Json) -> str:
    return " to ".join(f"{v:.1f}" for v in step["load_average"])


# --- runs -------------------------------------------------------------------------------------------------------------


def _runs(result: Json) -> str:
    rows = result.get("runs")
    if not rows:
        return ""
    base = next((r for r in rows if (r["format"], r["quantisation"]) == BASE), None)
    rates = f"{'prefill tok/s':>20}{'x F16':>7}{'decode tok/s':>20}{'x F16':>7}"
    lines = [f"{'':30}{rates}{'first token s':>22}{'load s':>8}{'RSS MB':>8}"]
    for row in rows:
        if not row["prefill"]:
            lines.append(f"{_name(row['format'], row['quantisation'])}  failed: {row.get('error', 'no sample')[:80]}")
            continue
        cells = "".join(f"{_spread(row[k], 0):>20}{_ratio(row, base, k):>7}" for k in ("prefill", "decode"))
        rss = statistics.median(v or 0 for v in row["peak_rss_bytes"]) / 1e6
        lines.append(
            f"{_name(row['format'], row['quantisation'])}{cells}{_spread(row['first_token_s'], 2):>22}"
            f"{statistics.median(row['load_s']):8.2f}{rss:8.0f}"
        )
    lines += ["", *_conditions(rows, result)]
    return "\n".join(lines)


def _spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _ratio(row: Json, base: Json | None, key: str) -> str:
    """The middle of the ratios round by round, of the rounds that both have."""
    theirs = dict(zip(base["round"], base[key], strict=True)) if base else {}
    ratios = [v / theirs[n] for n, v in zip(row["round"], row[key], strict=True) if n in theirs]
    return f"{statistics.median(ratios):.2f}" if ratios else ""


def _conditions(rows: list[Json], result: Json) -> list[str]:
    done = [r for r in rows if r["prefill"]]
    versions = dict.fromkeys(str(r["runtime"]) for r in done)
    lengths = dict.fromkeys(f"{r['prompt_tokens']} and {r['completion_tokens']}" for r in done)
    loads = [v for r in done for v in r["load_average"] if v is not None] or [0.0]
    return [
        f"prompt and answer of {'; '.join(lengths)} tokens, {result['rounds']} rounds, {result['threads']} threads, "
        f"{result['machine']['cpu']}",
        "; ".join(versions),
        f"load average before each run: {min(loads):.1f} to {max(loads):.1f}; above the core count, trust no rate",
    ]


# --- the rest ---------------------------------------------------------------------------------------------------------


def _proofs(result: Json) -> str:
    found = result.get("proof")
    if not found:
        return ""
    lines = [f"{'next tokens, as the gate asks':30}{'seconds':>9}{'nats a token':>14}{'same first':>14}"]
    for row in found["rows"]:
        name = _name(row["format"], row["quantisation"])
        if "error" in row:
            lines.append(f"{name}  failed: {row['error'].splitlines()[0][:80]}")
            continue
        same = f"{row['same']} of {row['positions']}"
        lines.append(f"{name}{row['seconds']:9.1f}{row['kl_mean']:14.2g}{same:>14}")
    lines += ["", f"the checkpoint itself: {found['reference_s']:.0f} s; all of it: {found['seconds']:.0f} s, resident at most "
              f"{found['peak_rss_bytes'] / 1e9:.2f} GB"]  # fmt: skip
    return "\n".join(lines)


def _peer(found: Json | None) -> str:
    if not found or "missing" in found:
        return found["missing"] if found else ""
    ours, theirs = found["ours"], found["theirs"]
    lines = [f"{'four .litertlm':30}{'seconds':>9}{'peak GB':>9}{'MB':>30}"]
    for name, it, sizes in (
        ("ours", ours, [a["bytes"] for a in ours["artifacts"]]),
        (f"litetune {theirs['versions']['litetune']}", theirs, [r["bytes"] for r in theirs["recipes"]]),
    ):
        megabytes = " ".join(f"{(size or 0) / 1e6:.0f}" for size in sizes)
        lines.append(f"{name:30}{it['seconds']:9.0f}{it['peak_rss_bytes'] / 1e9:9.2f}{megabytes:>30}")
    each = ", ".join(f"{r['recipe']} {r['seconds']:.0f} s{_outcome(r)}" for r in theirs["recipes"])
    two = sum(r["seconds"] for r in theirs["recipes"][:2])
    lines.append(f"  litetune's recipes: {each}; the first two {two:.0f} s; load average {_loads(found)}")
    return "\n".join(lines)


def _outcome(recipe: Json) -> str:
    return "" if recipe["outcome"] == "passed" else f" ({recipe['outcome']})"


def _limits(result: Json) -> str:
    def line(it: dict[str, Any]) -> str:
        return f"{'kept' if it['kept'] else 'NOT KEPT':10}{it['what']}: {it['found']:.4g} of at most {it['limit']:g} {it['unit']}"

    return "\n".join(map(line, result["limits"]))
