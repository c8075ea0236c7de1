"""Which runs a table takes, and that their gin files and bindings come to what the papers trained."""

import gin
import pytest

from mt3.cli import configuration
from mt3.data.mixtures import members_of
from mt3.data.task_names import TaskName, variant_name
from mt3.evaluation.published_results import MT3_DATASETS
from mt3.evaluation.reproduction.jobs import Settings, make_jobs
from mt3.evaluation.reproduction.scales import SCALES
from mt3.evaluation.reproduction.tables import TABLES, find_table

ALL_JOBS = [
    (scale.name, job)
    for scale in SCALES.values()
    for table in TABLES.values()
    for job in make_jobs(table, Settings(scale.work_dir, scale=scale))
    if job.is_possible
]


def trainings(table):
    return {training.name: datasets for training, datasets in TABLES[table].trainings}


def build(job):
    """The `TrainingRun` of the listed command."""
    arguments = job.train_arguments()
    files = [one.removeprefix("--gin_file=") for one in arguments if one.startswith("--gin_file=")]
    bindings = [one for one in arguments if one.startswith("--gin.")]
    assert arguments == [
        "train",
        *(f"--gin_file={file}" for file in files),
        f"--run-dir={job.run_dir}",
        *bindings,
    ]
    configuration.parse(files, configuration.bindings_from(bindings))
    return configuration.build("TrainingRun")


def paper_run(table, name):
    (job,) = [
        job
        for job in make_jobs(TABLES[table], Settings(SCALES["paper"].work_dir))
        if job.training.name == name
    ]
    return build(job)


def test_runs_of_the_mt3_paper():
    single = {f"mt3_{dataset}": (dataset,) for dataset in MT3_DATASETS}
    assert trainings("table2") == {**single, "mt3_mixture": MT3_DATASETS}
    assert trainings("table3") == dict.fromkeys(
        ("mt3_mixture_flat", "mt3_mixture_midi_class", "mt3_mixture"), MT3_DATASETS
    )
    assert trainings("table5") == {f"mt3_without_{dataset}": (dataset,) for dataset in MT3_DATASETS}


def test_runs_of_other_papers():
    assert trainings("ismir2021") == {"piano": ("maestrov3",)}
    steps_and_rates = ("50k_1e-4", "150k_1e-4", "50k_1e-3", "150k_1e-3", "500k_1e-3")
    assert trainings("acoustic-transformer") == {
        f"{name}_slakh_{training}": ("slakh",)
        for name in ("acoustic_transformer", "mt3")
        for training in steps_and_rates
    }


def test_names_of_trainings_stand_for_one_training():
    known = {}
    for table in TABLES.values():
        for job in make_jobs(table, Settings(SCALES["paper"].work_dir)):
            assert known.setdefault(job.training.name, job.identity) == job.identity


def test_every_score_of_a_table_has_a_training_that_is_scored_on_its_dataset():
    for name, table in TABLES.items():
        assert table.scores, name
        for score in table.scores:
            assert score.dataset in trainings(name)[table.training_of(score).name]


@pytest.mark.parametrize(("scale", "job"), ALL_JOBS, ids=lambda value: getattr(value, "directory", value))
def test_commands_fit_together(scale, job):
    """Training is on the datasets that are named, in the tokens that are scored."""
    run = build(job)
    assert run.num_steps == (2 if scale == "toy" else job.training.num_steps)
    batches = gin.get_bindings("seqio_batches")
    tasks = [
        TaskName.parse(name)
        for name in members_of(batches["task"], batches.get("mixture_datasets", "paper")).task_names
    ]
    assert tuple(task.dataset for task in tasks if task) == job.training.datasets
    variant = variant_name(run.spec.tokenizer)
    assert {(task.variant, task.kind) for task in tasks if task} == {(variant, "train")}
    for dataset in job.datasets:
        assert f"--task={dataset}_{variant}_test" in job.eval_arguments(dataset)
    assert (run.spec.network.emb_dim == 512) == (scale == "paper")


def test_what_the_papers_trained():
    mixture = paper_run("table2", "mt3_mixture")
    assert (mixture.num_steps, mixture.optimizer.name, mixture.optimizer.learning_rate) == (
        10**6,
        "adafactor",
        1e-3,
    )
    assert gin.get_bindings("seqio_batches")["batch_size"] == 256
    assert paper_run("table2", "mt3_urmp").num_steps == 2**19
    for name in ("flat", "midi_class"):
        granularity = paper_run("table3", f"mt3_mixture_{name}").spec.tokenizer.vocabulary.program_granularity
        assert granularity == name
    piano = paper_run("ismir2021", "piano")
    assert (piano.num_steps, piano.spec.input_frames) == (400_000, 512)
    assert piano.spec.tokenizer.vocabulary.num_velocity_bins == 127
    assert not piano.spec.tokenizer.ties
    run = paper_run("acoustic-transformer", "mt3_slakh_150k_1e-4")
    assert (run.num_steps, run.spec.input_frames) == (150_000, 511)
    assert (run.optimizer.name, run.optimizer.learning_rate) == ("adamw", 1e-4)
    assert gin.get_bindings("seqio_batches")["batch_size"] == 4


def test_unknown_table():
    with pytest.raises(ValueError, match="'table4' is unknown: choose one of table2, table3"):
        find_table("table4")
