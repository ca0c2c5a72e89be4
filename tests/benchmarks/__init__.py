"""The engine beside a bare Celery chain, measured in one run: `make bench`.

A saga has four steps with one HTTP call each, to a server that answers from memory; refused at the
fourth, three are undone. The contenders take turns in every round on the same worker (prefork, two
children, the project's settings), and ratios are taken round by round.

- `bare-celery`: tasks in a chain, with the same headers and bodies, through urllib3; nothing is
  stored. The engine's own client is lighter than urllib3, which is part of what is compared.
- `chain` and `inline`: this engine, a task a step, and the worker going on with the next step.

A burst starts all its sagas at once: throughput is from the first start to the last end, and the
driver that starts them shares the CPUs. An end is seen from outside, by looking: for a bare chain
when its last call has been answered, for a saga when its row says so. Statements are counted in the
processes that send them, connections by PostgreSQL itself, CPU by the system's accounts.
"""
