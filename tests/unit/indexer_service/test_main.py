"""The words after `python -m indexer_service`."""

import pytest

from indexer_service import __main__ as program


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["migrat"], id="unknown"),
        pytest.param(["migrate", "--drop"], id="unknown-option"),
        pytest.param(["keys"], id="incomplete"),
        pytest.param(["settings", "now"], id="one-too-many"),
        pytest.param(["inspect", "job", "7"], id="unknown-kind"),
        pytest.param(["inspect", "guild", "x"], id="no-id"),
        pytest.param(["inspect", "guild", "7", "8"], id="two-ids"),
    ],
)
def test_main_refuses_words_when_they_name_no_command(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped command starts no service; the message lists the commands."""
    monkeypatch.setattr(program, "COMMANDS", dict.fromkeys(program.COMMANDS, lambda: 0))

    assert program.main(words) == 2
    assert "usage: python -m indexer_service " in capsys.readouterr().err
