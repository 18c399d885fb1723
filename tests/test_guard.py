"""Nothing leaves the machine: the guard bites in every process, and a run has nothing for it to bite."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import drawn
import nets
import pytest

GUARD = Path(__file__).parent / "guard"
REFUSED = "nothing may leave this machine"


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    """A log of this test's own: what it provokes is not held against it."""
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv("IMAGIER_GUARD", str(path))
    return path


@pytest.fixture
def server():
    """http://127.0.0.1:PORT that answers."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"here")

        def log_message(self, *told):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


# ---------------------------------------------------------------- it bites


def datagram() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"word", ("2001:db8::1", 53))


def quietly() -> None:
    with socket.socket() as sock:
        sock.connect_ex(("192.0.2.1", 80))


@pytest.mark.parametrize(
    "leave",
    [
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
        quietly,
        datagram,
        lambda: socket.getaddrinfo("example.org", 80),
        lambda: socket.gethostbyname("example.org"),
        lambda: socket.gethostbyname_ex("example.org"),
        lambda: socket.gethostbyaddr("192.0.2.1"),
        lambda: socket.getnameinfo(("192.0.2.1", 80), 0),
        lambda: urllib.request.urlopen("http://example.org", timeout=1),
        lambda: urllib.request.urlopen("https://192.0.2.1", timeout=1),
    ],
    ids=["connect", "connect_ex", "sendto", "getaddrinfo", "name", "name_ex", "address", "nameinfo", "http", "https"],
)
def test_nothing_leaves_this_process(leave, log):
    with pytest.raises(BaseException, match=REFUSED) as raised:
        leave()
    assert not isinstance(raised.value, Exception)
    assert ("example.org" in log.read_text()) or ("192.0.2.1" in log.read_text()) or ("2001:db8" in log.read_text())


def test_this_machine_is_not_beyond_itself(server, log):
    assert urllib.request.urlopen(server, timeout=5).read() == b"here"
    assert urllib.request.urlopen(server.replace("127.0.0.1", "localhost"), timeout=5).read() == b"here"
    left, right = socket.socketpair()
    left.sendall(b"word")
    assert right.recv(4) == b"word"
    left.close()
    right.close()
    assert not log.read_text()


def test_nothing_leaves_a_process_that_a_test_starts(log):
    done = python("import urllib.request; urllib.request.urlopen('http://example.org', timeout=1)")
    assert done.returncode != 0
    assert REFUSED in done.stderr
    assert "example.org" in log.read_text()


def test_a_proxy_on_this_machine_carries_nothing_out(server, log):
    code = "import urllib.request; urllib.request.urlopen('http://example.org', timeout=5)"
    done = python(code, http_proxy=server, HTTP_PROXY=server, all_proxy=server)
    assert REFUSED in done.stderr
    assert "example.org" in log.read_text()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_nothing_leaves_a_child_of_its_own(method, log, tmp_path):
    script = tmp_path / "child.py"
    script.write_text(
        textwrap.dedent(f"""
            import multiprocessing, urllib.request

            def leave():
                try:
                    urllib.request.urlopen("http://example.org", timeout=1)
                except Exception:
                    pass

            if __name__ == "__main__":
                child = multiprocessing.get_context("{method}").Process(target=leave)
                child.start()
                child.join()
            """)
    )
    subprocess.run([sys.executable, script], capture_output=True, check=True)
    assert "example.org" in log.read_text()


def test_a_test_that_hides_what_it_tried_fails_all_the_same(tmp_path):
    hiding = tmp_path / "test_hiding.py"
    hiding.write_text(
        "import subprocess, sys\n"
        "def test_hides():\n"
        "    code = 'import socket; socket.getaddrinfo(\"example.org\", 80)'\n"
        "    subprocess.run([sys.executable, '-c', code], capture_output=True)\n"
        "def test_does_not():\n"
        "    pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    paths = os.pathsep.join([str(GUARD.parent), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [*command, hiding], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}, check=False
    )
    assert "2 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "tried to use the network" in done.stdout
    assert "example.org" in done.stdout


# ---------------------------------------------------------------- and finds nothing


@pytest.fixture
def stranger(tmp_path, monkeypatch) -> Path:
    """A home where nobody has said yes or no to anything, and no sign of continuous integration."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.mark.skipif(not importlib.util.find_spec("openvino_telemetry"), reason="nothing there that tells")
@pytest.mark.skipif(sys.platform == "win32", reason="told from this process there, and swallowed")
def test_the_guard_sees_what_importing_openvino_plainly_would_tell(stranger, log):
    """So that the silence below proves something: it is told in a child, and its errors are swallowed."""
    python("import openvino")
    assert "google-analytics" in log.read_text()


def test_openvino_as_it_is_imported_here_tells_nothing(stranger, log, tmp_path):
    network = nets.network(tmp_path / "tiny.onnx")
    done = python(
        f"""
        from pathlib import Path
        import numpy as np
        from imagier.models import engines
        engines.load(Path({str(network)!r}), "openvino")(np.zeros((1, 3, 8, 8), np.float32))
        """
    )
    assert done.returncode == 0, done.stderr
    assert not log.read_text()
    assert not (stranger / "intel").exists()


def sealed(*command: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(GUARD / "sealed.py"), *map(str, command)], capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("this kernel cannot forbid a process its sockets")
    return done


def test_the_kernel_forbids_what_no_hook_would_see(log):
    code = "import socket; socket.socket(socket.AF_UNIX).close(); print('one'); socket.socket(); print('two')"
    done = sealed(sys.executable, "-u", "-c", code)
    assert done.stdout == "one\n"
    assert done.returncode == -signal.SIGSYS


def test_a_whole_run_opens_no_internet_socket(stranger, log, tmp_path):
    """Native code too, Lance's and OpenVINO's: the kernel would end the process."""
    images = drawn.fill(tmp_path / "images", each=4)
    network = nets.network(tmp_path / "tiny.onnx")
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(
        f"- embed: {{encoder: {network}, engine: openvino}}\n- reduce: {{method: umap}}\n"
        "- cluster: {k: 3}\n- cluster: {method: dbscan}\n  as: dbscan\n- duplicates\n"
    )
    imagier = (sys.executable, "-m", "imagier.cli")
    done = sealed(*imagier, "run", images, "--into", tmp_path / "out", "--pipeline", pipeline, "--no-report")
    assert done.returncode == 0, done.stdout + done.stderr
    done = sealed(*imagier, "compare", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "report.html").is_file()
    assert not log.read_text()
