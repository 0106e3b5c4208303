"""Many recordings: a process and a result file each, merged exactly, ranked, compared between two models.

May import `bag` and the rest of the package, never ROS. One file a step: jobs, executors (processes of this machine, or tasks
of Ray), scores of a recording, the tally of all, comparison, report.
The way in is `seg_perception evaluate-bags`.
"""
