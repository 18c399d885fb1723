"""quiet: this thread's words alone, and nothing stays behind. Each in a process of its own, whose logs are as Python
sets them up, whatever other tests' libraries have done to them."""

from __future__ import annotations

import subprocess
import sys
import textwrap

HEAD = """
import logging, threading, warnings
from imagier._quiet import quiet
"""


def said(code: str, head: str = HEAD) -> list[str]:
    """What a program says on standard error."""
    command = [sys.executable, "-c", head + textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()


def test_inside_nothing_is_said_and_outside_all_is():
    assert said("""
        logging.basicConfig(format="%(message)s")
        warnings.simplefilter("error")
        with quiet("root"), quiet("of.a.library"):
            logging.warning("within")
            logging.getLogger("of.a.library").warning("within")
            logging.getLogger("of.another").warning("within")
            warnings.warn("within")
        logging.warning("after")
        logging.getLogger("of.a.library").warning("after")
        try:
            warnings.warn("heard")
        except UserWarning as warning:
            logging.warning(str(warning))
    """) == ["after", "after", "heard"]


def test_a_filter_that_was_set_in_between_does_not_undo_it():
    assert (
        said("""
        with quiet("root"):
            pass
        warnings.simplefilter("error")
        with quiet("root"):
            warnings.warn("within")
    """)
        == []
    )


def test_other_threads_are_heard():
    assert said("""
        logging.basicConfig(format="%(message)s")
        inside, heard = threading.Event(), threading.Event()

        def silent():
            with quiet("root"):
                inside.set()
                heard.wait(10)
                logging.warning("of the silent one")

        thread = threading.Thread(target=silent)
        thread.start()
        assert inside.wait(10)
        logging.warning("of another")
        logging.getLogger("imagier.anything").warning("of a module")
        heard.set()
        thread.join()
    """) == ["of another", "of a module"]


def test_a_program_without_handlers_hears_other_threads_and_can_still_set_up_its_own():
    assert said("""
        with quiet("root"), quiet("root"):
            logging.warning("hidden")
            other = threading.Thread(target=logging.getLogger("a.name").warning, args=("heard",))
            other.start()
            other.join()
        assert not logging.getLogger().handlers
        logging.basicConfig(format="own %(message)s")
        logging.warning("after")
    """) == ["heard", "own after"]


def test_a_program_that_wants_no_last_resort_is_left_so():
    head = "import logging\nlogging.lastResort = None\n"
    assert said(
        """
        from imagier._quiet import quiet
        with quiet("root"):
            logging.warning("hidden")
        assert not logging.getLogger().handlers
        """,
        head,
    ) == []  # fmt: skip
