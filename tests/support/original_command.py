"""The command that trained the original, with its numbers."""

ORIGINAL = """
--input_file=gs://BUCKET/bert-like-endogenous-docs-tfrecords-128/*.tf_record
--output_dir=gs://BUCKET/training-results/tibert-base-128-no-sop/
--albert_config_file=/tmp/albert_base/albert_config.json --do_train --train_batch_size=1024
--max_seq_length=128 --max_predictions_per_seq=20 --optimizer=lamb --learning_rate=.00176
--num_warmup_steps=3125 --num_train_steps=1000000 --save_checkpoints_steps=1000
--keep_checkpoint_max=100 --use_tpu=true --tpu_name=tibert-tpu --tpu_zone=us-central1-a --num_tpu_cores=8
"""
