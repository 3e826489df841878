#!/bin/bash
# Settings of a site. Copy to jobs/env.sh and edit; jobs/train.sbatch reads it at each start.

# What the program needs at run time, as your site provides it:
# module load openmpi hdf5

# The program (default: build/cuda/src/app/fedit below the folder that sbatch was called in, or
# build/release there).
# FEDIT=$HOME/fedit/build/release/src/app/fedit

# Starts of one job beyond the first, by requeue. A job that still is not done then ends with code
# 75.
# FEDIT_MAX_RESTARTS=20

# The network of the nodes, if Open MPI picks a wrong one:
# export OMPI_MCA_btl_tcp_if_include=ib0

# Many sites give /dev/shm little room, and ranks of a node share the base model there:
# export OMPI_MCA_osc_sm_backing_directory=/scratch/$USER
