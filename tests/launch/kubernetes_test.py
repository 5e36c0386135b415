"""launch/kubernetes.yaml: valid by the published schema, and what each exit code of a worker leads to."""

import os
import pathlib
import subprocess
import tomllib

import pytest
import yaml

LAUNCH = pathlib.Path(__file__).parent.parent.parent / "launch"


@pytest.fixture(scope="module")
def objects():
    """The objects of the file, by kind."""
    parts = list(yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text(encoding="utf-8")))
    by_kind = {part["kind"]: part for part in parts}
    assert len(by_kind) == len(parts)
    return by_kind


@pytest.fixture(scope="module")
def validate():
    """`kubernetes_validate.validate`; skipped where it is not installed, or fails if references are required."""
    if not os.environ.get("BRITTLE_JAX_REQUIRE_REFERENCE"):
        pytest.importorskip("kubernetes_validate")
    import kubernetes_validate

    return kubernetes_validate.validate


@pytest.fixture
def pod(objects):
    return objects["Job"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", ["1.31", "1.33"])
@pytest.mark.parametrize("kind", ["ConfigMap", "PersistentVolumeClaim", "Pod", "Job"])
def test_each_object_obeys_the_published_schema(validate, objects, kind, version):
    assert validate(objects[kind], version, strict=True) == version


def test_the_schema_notices_a_misspelled_field(validate, objects):
    job = {**objects["Job"], "spec": {**objects["Job"]["spec"], "backoffLimitPerIndices": 1}}
    with pytest.raises(Exception, match="backoffLimitPerIndices"):
        validate(job, "1.31", strict=True)


def action(objects, exit_code, disrupted=False):
    """Returns what the policy does with a pod whose container ended with an exit code; `Count` is the default."""
    for rule in objects["Job"]["spec"]["podFailurePolicy"]["rules"]:
        if "onPodConditions" in rule:
            conditions = [(each["type"], each["status"]) for each in rule["onPodConditions"]]
            if disrupted and ("DisruptionTarget", "True") in conditions:
                return rule["action"]
        elif exit_code in rule["onExitCodes"]["values"]:
            assert rule["onExitCodes"]["operator"] == "In"
            return rule["action"]
    return "Count"


@pytest.mark.parametrize(
    ("exit_code", "disrupted", "expected"),
    [
        (75, False, "Ignore"),  # stopped; the same command goes on
        (75, True, "Ignore"),
        (137, True, "Ignore"),  # evicted, and not done in time
        (2, False, "FailIndex"),  # a user's mistake
        (1, False, "Count"),  # a row failed
        (137, False, "Count"),  # out of memory
    ],
)
def test_what_an_exit_code_leads_to(objects, exit_code, disrupted, expected):
    assert action(objects, exit_code, disrupted) == expected


def test_the_policy_watches_the_container_of_the_rows(objects, pod):
    rules = objects["Job"]["spec"]["podFailurePolicy"]["rules"]
    watched = {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule}
    assert watched == {container["name"] for container in pod["containers"]}


def test_each_worker_has_one_gpu_and_an_index_of_its_own(objects, pod):
    job = objects["Job"]["spec"]
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"]
    assert (job["backoffLimitPerIndex"], job["podReplacementPolicy"], pod["restartPolicy"]) == (1, "Failed", "Never")
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_names_refer_to_objects_that_are_there(objects, pod):
    claim = objects["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for spec in (pod, objects["Pod"]["spec"]):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert {mount["name"] for mount in spec["containers"][0]["volumeMounts"]} == set(volumes)
    reference = pod["containers"][0]["envFrom"][0]["configMapRef"]["name"]
    assert reference == objects["ConfigMap"]["metadata"]["name"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"ROWS": "cifar10 xray_rotnet"}, ["cifar10", "xray_rotnet", "--runs=/data/runs"]),
        ({"ROWS": ""}, ["--runs=/data/runs"]),
        ({"RUNS": ""}, ["cifar10", "--runs=/data/runs"]),
        (
            {"ROWS": "xray", "OVERRIDES": "--config.seed=1 --x=y", "RUNS": "/data/runs-seed 1"},
            ["xray", "--runs=/data/runs-seed 1", "--", "--config.seed=1", "--x=y"],
        ),
    ],
)
def test_the_worker_is_called_with_the_rows_and_options(objects, pod, tmp_path, settings, expected):
    (tmp_path / "launch").mkdir()
    worker = tmp_path / "launch" / "all_rows.sh"
    worker.write_text("#!/bin/sh\necho $$\nprintf '%s\\n' \"$@\"\n", encoding="utf-8")
    worker.chmod(0o755)
    process = subprocess.Popen(
        pod["containers"][0]["command"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **objects["ConfigMap"]["data"], **settings},
        stdout=subprocess.PIPE,
        text=True,
    )
    number, *arguments = process.communicate()[0].splitlines()
    assert arguments == expected
    assert int(number) == process.pid  # so that signals reach the worker


def test_the_image_holds_what_an_installation_needs():
    project = tomllib.loads((LAUNCH.parent / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {*wheel["packages"], *wheel["force-include"], "launch"}
    lines = (LAUNCH / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == needed
