"""Runs that a published table needs, how far they have come, and the table with ours beside theirs.

    table = find_table("table2")                                  (tables/)
    jobs = make_jobs(table, Settings(work_dir))                   (jobs.py)
    states = [read_state(job, prepared) for job in jobs]          (states.py)
    failures = [launch(state) for state in states]                (launching.py)
    print(comparison_text(compare(table, states)))                (comparing.py)

A table is a file of `tables/` and a row of `TABLES`. All state is in a work
directory, a directory for each training, which tables share:

    WORK/TRAINING/settings.json       what it was started with
    WORK/TRAINING/run/                the run, as `mt3 train` leaves it
    WORK/TRAINING/results/DATASET/    as `mt3 eval` leaves it
    WORK/TRAINING/*.log               what the commands said
"""
