"""Ports that can be typed, and others where something listens on them."""

import socket

from devstack import ports


def test_a_fixed_port_is_given_up_when_something_listens_on_it() -> None:
    """Another one is chosen, and the taken one can be told."""
    with socket.create_server((ports.HOST, 0)) as listener:
        taken = listener.getsockname()[1]
        chosen = ports.Ports({"service-1": taken, "simulator": (free := ports.free_port())})

        assert chosen.choose("service-1") != taken
        assert chosen.choose("simulator") == free
        assert chosen.taken == {"service-1": taken}


def test_any_free_port_is_chosen_when_none_is_fixed() -> None:
    """Several stacks run side by side in tests."""
    chosen = ports.Ports()

    assert chosen.choose("service-1") not in ports.FIXED.values()
    assert chosen.taken == {}
