"""`textmill doctor`: findings about the machine, the home, the servers (`doctor`) and the work (`work`). A finding says what is and what to
do.

It changes nothing, starts nothing, and reads no content.
"""
