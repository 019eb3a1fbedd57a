"""What a machine cannot run is said, and CI does not accept it."""

import pytest

SUITE = """
    import pytest
    from tests.fixtures.machine import cannot_run

    @pytest.fixture
    def telescope():
        cannot_run("telescope", "Buy one.")

    def test_stars(telescope): ...
    def test_moon(telescope): ...
    def test_earth(): ...
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("CI", raising=False)
    pytester.makeconftest('pytest_plugins = ["tests.fixtures.machine"]')
    pytester.makepyfile(SUITE)
    return pytester


@pytest.mark.slow  # it runs pytest
@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_run_is_listed_with_its_reason(suite: pytest.Pytester, workers: int) -> None:
    result = suite.runpytest("-n", str(workers))
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*not run on this machine*", "2 tests: no telescope. Buy one."])


@pytest.mark.slow  # it runs pytest
@pytest.mark.parametrize("workers", [0, 1])
def test_in_ci_it_fails_the_run(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("CI", "true")
    result = suite.runpytest("-n", str(workers))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["In CI everything must run*"])


def test_where_everything_runs_nothing_is_listed(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = suite.runpytest("-k", "earth")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*not run on this machine*")
