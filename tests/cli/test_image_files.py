"""Tables that name image files, from the command line."""

import numpy as np
import pandas as pd
from PIL import Image


def test_a_column_of_images_is_read_by_fit_and_predict(polytask, tmp_path):
    rng = np.random.default_rng(0)
    shade = rng.uniform(0, 1, 60)
    for row in range(60):
        Image.fromarray((255 * shade[row] * rng.uniform(0.5, 1, (6, 6))).astype(np.uint8)).save(tmp_path / f"{row}.png")
    frame = pd.DataFrame({"photo": [f"{row}.png" for row in range(60)], "bright": shade, "dark": shade < 0.5})
    frame.to_csv(tmp_path / "shots.csv", index=False)
    asked = ("fit", tmp_path / "shots.csv", "--targets", "bright,dark", "--set", "kinds.photo=image", "--epochs", 15)
    made = polytask(*asked, "--out", tmp_path / "run")
    assert made.code == 0, made.err
    frame[["photo"]].to_csv(tmp_path / "new.csv", index=False)
    done = polytask("predict", tmp_path / "run", tmp_path / "new.csv", "--out", tmp_path / "answers.csv")
    assert done.code == 0, done.err
    assert np.corrcoef(pd.read_csv(tmp_path / "answers.csv")["bright"], shade)[0, 1] > 0.8
    frame.loc[7, "photo"] = "none.png"
    frame[["photo"]].to_csv(tmp_path / "new.csv", index=False)
    failed = polytask("predict", tmp_path / "run", tmp_path / "new.csv", "--out", tmp_path / "others.csv")
    assert failed.code == 2
    assert failed.err.count("\n") == 1
    assert "row 7: " in failed.err
    assert "none.png' is not there" in failed.err
