"""Takes the picture of the demo's page: `python docs/images/study_page.py`, two minutes; it needs Chromium.

The picture has one size whatever the screen. Give a study's folder to take another page than the demo's.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        sys.exit(f"The picture needs a browser without a window, and none of {', '.join(BROWSERS)} is there.")
    return found


def take(page: Path, picture: Path, width: int = 1180, height: int = 940) -> None:
    """Draws the top of a page into a PNG file."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"]
    shot = [f"--window-size={width},{height}", f"--screenshot={picture}", page.resolve().as_uri()]
    done = subprocess.run([browser(), *options, *shot], capture_output=True, text=True, timeout=120)
    if done.returncode or not picture.is_file():
        sys.exit(f"The browser drew nothing: {done.stderr}")


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("run", nargs="?", type=Path, help="folder of a study; without it the demo is run")
    asked.add_argument("--out", type=Path, default=HERE / "study-page.png")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or Path(folder) / "demo-run"
        if options.run is None:
            subprocess.run([sys.executable, "-m", "polytask", "demo", "--out", str(run)], check=True)
        take(run / "page.html", options.out)
    print(options.out)
