"""Where work runs: several processes of one training, shards of a data job, Ray, SLURM."""
