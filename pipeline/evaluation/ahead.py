"""Is the network ahead of every baseline, in every figure and row? Where it isn't, it is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.contenders import ORACLES
from pipeline.evaluation.scores import FIGURES, Scores


def ahead_of_baselines(tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Compare in every table, row and figure.

    Parameters
    ----------
    tables
        Table → row → the network's figures, and under `baselines` those of each baseline.

    Returns
    -------
    dict
        ``ok``, ``compared`` (pairs of figures) and ``behind``: each place where a baseline is as good or better.
        A figure that one of the two lacks is not compared.
    """
    compared = 0
    behind = []
    for table, rows in tables.items():
        for row, own in rows.items():
            for name, figures in own["baselines"].items():
                if name in ORACLES:
                    continue
                for figure, more_is_better in FIGURES.items():
                    network, baseline = own.get(figure), figures.get(figure)
                    if network is None or baseline is None:
                        continue
                    compared += 1
                    if (baseline >= network) if more_is_better else (baseline <= network):
                        behind.append(
                            {
                                "table": table,
                                "row": row,
                                "figure": figure,
                                "baseline": name,
                                "baseline_value": baseline,
                                "network_value": network,
                            }
                        )
    return {"ok": not behind, "compared": compared, "behind": behind}


def beside_baselines(means: Mapping[str, Scores], network: str) -> dict[str, Any]:
    """A row of a table: the network's figures, and the others' under `baselines`."""
    others = {name: figures for name, figures in means.items() if name != network}
    return {**means[network], "baselines": others}
