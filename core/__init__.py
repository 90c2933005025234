"""The messaging core: Majordomo, the Titanic protocol and the life of a job.

``core.pure`` holds codecs and decisions and touches no socket, file, clock or random source;
``core.shell`` holds the one place per kind of IO that reads, asks a pure object, and performs.
"""
