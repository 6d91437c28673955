import torch

from defectops.learning.averaging import halfway


def test_halfway_is_the_mean_and_counts_are_those_of_the_later_state():
    before = {"weight": torch.tensor([[0.0, 2.0]]), "batches": torch.tensor(3)}
    after = {"weight": torch.tensor([[1.0, -4.0]]), "batches": torch.tensor(8)}
    found = halfway(before, after)
    assert torch.equal(found["weight"], torch.tensor([[0.5, -1.0]]))
    assert found["weight"].dtype == torch.float32
    assert int(found["batches"]) == 8


def test_halfway_of_a_state_with_itself_is_that_state():
    state = {"weight": torch.randn(3, 2, generator=torch.Generator().manual_seed(0))}
    assert torch.equal(halfway(state, state)["weight"], state["weight"])
