"""Settings for trainings in tests that are about neither the console nor code state.

Both start a process beside the training, which most tests have no use for.
"""

ALONE = {"TRACKER_CONSOLE": "off", "TRACKER_DISABLE_CODE": "1"}
