"""Another option in the place of an experiment's own."""

import pytest

from aigc_lab.config.compose import Composer

COMPOSER = Composer()


def test_settings_of_components_that_were_replaced_go_with_them() -> None:
    config = COMPOSER.train(["experiment=image/mnist_gan", "callbacks=default", "model/penalties=lecam"])
    assert list(config.callbacks) == ["watch", "checkpoint", "progress"]
    assert config.callbacks["checkpoint"]["every_n_steps"] == 1000, "the experiment's, of a callback that is there"
    assert list(config.model["penalties"]) == ["lecam"]
    assert COMPOSER.train(["experiment=image/mnist_gan", "model/penalties=none"]).model["penalties"] == {}


def test_a_protocol_keeps_its_features() -> None:
    """They are two levels down."""
    named, own = COMPOSER.evaluate(["evaluation=standard"]), COMPOSER.evaluate([])
    assert named == own and COMPOSER.evaluate(["evaluation=quick"]).evaluation.features == own.evaluation.features


def test_a_new_component_keeps_what_it_takes() -> None:
    config = COMPOSER.train(["experiment=image/mnist_gan", "model/generator=mlp", "data=digits"])
    assert "width" not in config.model["generator"] and config.model["discriminator"]["width"] == 32
    assert config.data["batch_size"] == 64


@pytest.mark.parametrize(
    ("experiment", "group"),
    [("mnist_flow", "guidance"), ("mnist_cgan", "generator_condition"), ("mnist_gan", "augment")],
)
def test_a_group_that_may_have_no_option_is_set_to_null(experiment: str, group: str) -> None:
    assert group not in COMPOSER.train([f"experiment=image/{experiment}", f"model/{group}=null"]).model
