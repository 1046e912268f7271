"""What `tools/doctor.py` says: whether this machine, and a config on it, will work before a job is queued.

`page.py` is the form and `running.py` the order of it. `versions.py`, `hardware.py` and `software.py` look at the
machine; they import no library but the standard one, for what they look for may be missing. `case.py` and
`settings.py` look at a config, `measuring.py` runs it for a few steps in a process of its own, and `forecast.py`
says what follows from that for a whole run.
"""
