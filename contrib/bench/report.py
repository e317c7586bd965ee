# SPDX-License-Identifier: BSD-3-Clause
"""report - what a person sees of a run, and two runs beside each other."""

import collections


def number(x):
    if x is None or x != x:
        return "-"
    if abs(x) >= 100:
        return "%.0f" % x
    return "%.3g" % x


def head(run):
    m = run["machine"]
    print("%s, %d CPUs, kernel %s, load %.1f, %s, %s"
          % (m["cpu"], m["cpus"], m["kernel"], m["load"][0], m["nbdkit"],
             m["commit"]))
    print("%d rounds, %s of the work%s; CPU: us of the server for a request"
          % (run["pairs"], number(run["work"]),
             "" if run["subject"] == "pagecache"
             else "; MEASURING %s INSTEAD" % run["subject"]))
    print("%-17s %10s %8s %7s  %-8s  %s"
          % ("row", "goal", "is", "spread", "verdict", "behind it"))


SHORT = {"not measurable now": "unsure"}


def line(r):
    goal = "%s %s" % (r["op"], number(r["goal"]))
    spread = "-" if not r.get("twins") else "%.2f" % r["spread"]
    text = "%-17s %10s %8s %7s  %-8s" % (
        r["row"], goal, number(r["figure"]), spread,
        SHORT.get(r["verdict"], r["verdict"]))
    if r.get("why"):
        print("%s  %s" % (text, r["why"].replace("\n", " ")[:160]), flush=True)
        return
    parts = ["%s: %s" % (r["unit"], ", ".join(
        "%s %s" % (k, number(v)) for k, v in r["behind"].items()))
        if r["behind"] else r["unit"]]
    if r["cpu_us"] and any(r["cpu_us"].values()) and r.get("twins"):
        parts.append("CPU " + ", ".join(
            "%s %s" % (k, number(v)) for k, v in r["cpu_us"].items()
            if not k.endswith("2") and k != "rtt"))
    if r["peers"]:
        parts.append("%s of " % r["peer_unit"] + ", ".join(
            "%s %s" % (k, number(v)) for k, v in r["peers"].items()))
    print("%s  %s" % (text, " | ".join(p for p in parts if p)), flush=True)
    for note in r.get("notes", []):
        print("%-17s   %s" % ("", note), flush=True)


def tail(run):
    count = collections.Counter(r["verdict"] for r in run["rows"])
    print("%s, in %d s" % (", ".join(
        "%d %s" % (n, v) for v, n in count.most_common()), run["seconds"]))
    if run["machine"]["load_at_end"][0] > run["machine"]["cpus"] + 4:
        print("Others were using this machine: do not trust absolute figures.")


def compare(old, new):
    """Rows of both runs whose work was the same; ratios, and CPU."""
    before = {r["row"]: r for r in old["rows"]}
    print("\nbeside %s (%s)" % (old["machine"]["commit"], old["time"]))
    print("%-17s %8s %8s %7s %9s %9s" % (
        "row", "was", "is", "change", "CPU was", "CPU is"))
    for r in new["rows"]:
        o = before.get(r["row"])
        if o is None or o["figure"] is None or r["figure"] is None:
            continue
        if o["work"] != r["work"]:
            print("%-17s was another work: not comparable" % r["row"])
            continue
        change = r["figure"] / o["figure"] - 1 if o["figure"] else 0
        noise = (o["spread"] or 0) + (r["spread"] or 0) + 0.02
        label = next((k for k in ("ours", "cold", "eight")
                      if k in r["cpu_us"]), None)
        better = (change > 0) == (r["op"] == ">=")
        print("%-17s %8s %8s %+6.0f%% %9s %9s  %s" % (
            r["row"], number(o["figure"]), number(r["figure"]), change * 100,
            number(o["cpu_us"].get(label)), number(r["cpu_us"].get(label)),
            "" if abs(change) <= noise else "better" if better else "worse"))
