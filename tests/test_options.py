"""One declaration per option: signature, documentation, checks, YAML and flags agree with it."""

import inspect

import pytest
from federation import federation, mlp
from fedfast.kernels import registry
from fedfast.kernels._args import PRECISIONS

import fedfast
from fedfast.config import RunConfig
from fedfast.data import AUGMENTS
from fedfast.declarations import declarations
from fedfast.options import SimulationOptions
from fedfast.run_options import RunOptions

OPTIONS = {option.name: option for option in declarations(SimulationOptions)}


def test_the_signature_and_the_documentation_are_those_of_the_declarations():
    found = inspect.signature(fedfast.Simulation).parameters
    assert list(found) == list(OPTIONS)
    text = " ".join(fedfast.Simulation.__doc__.split())
    for name, option in OPTIONS.items():
        assert found[name].annotation == option.annotation
        assert found[name].default in (option.default, inspect.Parameter.empty)
        assert f"{name} {option.texts[0]}" in text


def test_a_file_has_the_same_options_and_defaults():
    for option in declarations(RunOptions):
        field = RunConfig.model_fields[option.name]
        assert field.default == option.default
        assert field.description == option.texts[0].replace("None", "null")


def test_names_are_those_of_the_kernels_and_of_the_data():
    assert OPTIONS["backend"].check.names == registry.BACKENDS
    assert OPTIONS["precision"].check.names == ("auto", *PRECISIONS)
    assert all(f"'{name}'" in repr(RunConfig.model_fields["augment"]) for name in AUGMENTS)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(rouns=3), "got an unexpected keyword argument 'rouns'; did you mean 'rounds'?"),
        (dict(zzz=3), "got an unexpected keyword argument 'zzz'"),
        (dict(rounds=3), "missing a required argument: 'model'"),
    ],
)
def test_arguments_that_fit_no_option_are_refused(options, message):
    with pytest.raises(TypeError) as error:
        fedfast.Simulation(**options)
    assert str(error.value) == f"Simulation() {message}"


def test_warnings_are_of_the_users_line():
    with pytest.warns(UserWarning, match="no samples") as found:
        fedfast.Simulation(mlp(), federation([4, 0]))
    assert found[0].filename == __file__
