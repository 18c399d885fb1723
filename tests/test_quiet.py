"""quiet: this thread's words alone, and nothing stays behind."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import warnings

import pytest

from imagier._quiet import quiet


def test_inside_nothing_is_said_and_outside_all_is(caplog):
    with quiet("root"), quiet("of.a.library"):
        logging.warning("within")
        logging.getLogger("of.a.library").warning("within")
        logging.getLogger("of.another").warning("within")
        warnings.warn("within", stacklevel=1)  # warnings are errors in these tests
    logging.warning("after")
    logging.getLogger("of.a.library").warning("after")
    assert caplog.messages == ["after", "after"]
    with pytest.warns(UserWarning, match="after"):
        warnings.warn("after", stacklevel=1)


def test_a_filter_that_was_set_in_between_does_not_undo_it():
    with quiet("root"):
        pass
    warnings.simplefilter("error")
    with quiet("root"):
        warnings.warn("within", stacklevel=1)
    with pytest.raises(UserWarning, match="after"):
        warnings.warn("after", stacklevel=1)


def test_other_threads_are_heard(caplog):
    inside, said = threading.Event(), threading.Event()

    def silent() -> None:
        with quiet("root"):
            inside.set()
            said.wait(10)
            logging.warning("of the silent one")

    thread = threading.Thread(target=silent)
    thread.start()
    assert inside.wait(10)
    logging.warning("of another")
    logging.getLogger("imagier.anything").warning("of a module")
    said.set()
    thread.join()
    assert caplog.messages == ["of another", "of a module"]


def test_a_program_without_handlers_hears_other_names_and_can_still_set_up_its_own():
    code = (
        "import logging\n"
        "from imagier._quiet import quiet\n"
        "import threading\n"
        "with quiet('root'), quiet('root'):\n"
        "    logging.warning('hidden')\n"
        "    other = threading.Thread(target=logging.getLogger('a.name').warning, args=('heard',))\n"
        "    other.start()\n"
        "    other.join()\n"
        "assert not logging.getLogger().handlers\n"
        "logging.basicConfig(format='own %(message)s')\n"
        "logging.warning('after')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "heard\nown after\n"


def test_a_program_that_wants_no_last_resort_is_left_so():
    code = (
        "import logging\n"
        "logging.lastResort = None\n"
        "from imagier._quiet import quiet\n"
        "with quiet('root'):\n"
        "    logging.warning('hidden')\n"
        "assert not logging.getLogger().handlers\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
