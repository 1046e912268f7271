"""Where a mixer stands, measured from its Jacobians: what is connected, which weights are shared, what makes them.

Source of the questions: Han et al. (ICLR 2022), section 3 and table 1. `subjects.py` builds what is probed,
`jacobians.py` differentiates it, `probing.py` reads the answers into a `Place`, `report.py` and the figures show
them.
"""

from .place import Place, Reach
from .probing import probe
from .subjects import Subject, module_subject, registered_mixers, subject_of
from .weights import weights_at

__all__ = ['Place', 'Reach', 'Subject', 'module_subject', 'probe', 'registered_mixers', 'subject_of', 'weights_at']
