"""What the README shows works as it stands there."""

import pathlib
import re

README = pathlib.Path(__file__).parent.parent / "README.md"


def test_the_script_in_the_readme_runs(tmp_path, monkeypatch):
    (script,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(script, "README.md", "exec"), names)
    assert names["rate"].shape == names["elbo"].shape == (360,)
    assert names["images"].shape == (360, 8, 8, 1)
    assert names["samples"].shape == (16, 8, 8, 1)
    assert names["samples"].numpy().min() >= 0
    assert names["samples"].numpy().max() <= 1
