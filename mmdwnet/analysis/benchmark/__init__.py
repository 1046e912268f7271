"""The benchmark: nets and ops measured side by side in one process. `tools/analysis_tools/benchmark.py` runs it.

| module | what it holds |
|---|---|
| `nets`, `as_published`, `nat` | what is measured: this project's nets, the official way to compute, the peers |
| `cases`, `op_cases` | one measurement: a net or an op, its precision, layout, compile mode, batch, device |
| `timing`, `memory`, `bandwidth` | how: interleaved rounds, peak memory, the bandwidth of a copy |
| `cuda_graphs` | how ops, and nets that are asked for so, are called on a GPU: many calls in one launch |
| `suites`, `demands` | named sets of measurements, and the ratios that issue 4 asks of them |
| `running`, `report`, `charts`, `machine` | from cases to results, to tables, JSON and pictures; on what machine |

No peer library is imported before a net of it is built.
"""
