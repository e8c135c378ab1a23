"""A real browser for pages: they are opened from disk, headless, and tell what a script found in them."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    "--disable-dev-shm-usage",
)
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)

needs_browser = pytest.mark.skipif(
    PROGRAM is None,
    reason=f"no browser here: none of {', '.join(NAMES)} is on the path (apt-get install chromium)",
)

WATCH = """<script>
window.errors = [];
addEventListener("error", event => errors.push(event.message || event.target.src || event.target.href), true);
</script>"""
TELL = """<script>
addEventListener("load", async () => {
  let result = null;
  try { result = await (async () => { %s })(); } catch (error) { errors.push(String(error)); }
  const report = document.createElement("pre");
  report.id = "report";
  report.textContent = JSON.stringify({result, errors});
  document.body.append(report);
});
</script>"""


def run_script(page: Path, script: str, scratch: Path, width: int = 1200) -> object:
    """What a script returns that runs in the loaded page: in a copy beside it, with the script at its end.

    Fails if the page, or anything in it, met an error (a picture that does not load is one).
    """
    text = page.read_text()
    text = text.replace("<head>", f"<head>{WATCH}", 1).replace("</body>", f"{TELL % script}</body>", 1)
    copy = page.with_name(f"watched-{page.name}")
    copy.write_text(text)
    words = [PROGRAM, *FLAGS, f"--user-data-dir={scratch / 'profile'}", f"--window-size={width},900"]
    words += ["--virtual-time-budget=20000", "--dump-dom", copy.resolve().as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    match = re.search(r'<pre id="report">(.*?)</pre>', done.stdout, re.S)
    assert match, f"the page reported nothing: {done.stderr[-2000:]}"
    answer = json.loads(unescape(match[1]))
    assert answer["errors"] == [], answer["errors"]
    return answer["result"]
