# SPDX-License-Identifier: BSD-3-Clause
"""verdict - does a row hold?  The measuring rule of the goals, nothing else.

A row is measured in rounds.  In each round the reference is measured twice,
by two servers of the same kind (A/A).  The figure of a row is the median over
the rounds; its spread is how far the median of the A/A ratios is from 1.

  holds               figure + spread reaches the goal
  fails               it does not
  not measurable now  the spread is above 0.1: two equal servers differ by more
                      than a tenth.  Unless even the best round, made better by
                      the largest difference of any A/A pair, misses the goal:
                      then noise is no excuse.

A figure that is to be small (a latency, a multiple of the round trip) is let
off by that share of itself.  Counts and bytes have no spread.

A latency that the ceiling itself does not reach just now is not measurable
either, unless ours is FAR times the ceiling's in every round.
"""

import statistics

HOLDS, FAILS, UNSURE, ERROR, SKIPPED = (
    "holds", "fails", "not measurable now", "error", "skipped")

NOISE = 0.1
FAR = 3


def spread_of(twins):
    """|median of the A/A ratios - 1|; 0 for what is counted."""
    return abs(statistics.median(twins) - 1) if twins else 0.0


def reaches(op, figure, spread, goal):
    if op == ">=":
        return figure + spread >= goal
    return figure * (1 - min(spread, 1)) <= goal


def judge(op, goal, figures, twins, floors=()):
    """FLOORS: what the ceiling took, round by round, where that matters."""
    spread = spread_of(twins)
    noisy = spread > NOISE or \
        (floors and not reaches(op, statistics.median(floors), 0, goal))
    if not noisy:
        held = reaches(op, statistics.median(figures), spread, goal)
        return HOLDS if held else FAILS
    worst = max([max(t, 1 / t) for t in twins], default=1)
    if op == ">=":
        excused = max(figures) * worst >= goal
    else:
        excused = min(figures) / worst <= goal or \
            any(f < FAR * floor for f, floor in zip(figures, floors))
    return UNSURE if excused else FAILS
