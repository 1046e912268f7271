"""Lets `mmseg::...` bases be found whichever distribution provides mmseg; comes before them in `_base_`.

mmengine looks such a base up under the name of the original distribution, mmsegmentation, and says it is not
installed where the maintained one, onedl-mmsegmentation, is. The import name is right for both.
"""

import mmengine.config.utils as config_utils

config_utils.MODULE2PACKAGE['mmseg'] = 'mmseg'
