"""The command that trained the original, with its numbers."""

ORIGINAL = """
--input_file=gs://BUCKET/bert-like-endogenous-docs-tfrecords-128/*.tf_record
--output_dir=gs://BUCKET/training-results/tibert-base-128-no-sop/
--albert_config_file=/tmp/albert_base/albert_config.json --do_train --train_batch_size=1024
--max_seq_length=128 --max_predictions_per_seq=20 --optimizer=lamb --learning_rate=.00176
--num_warmup_steps=3125 --num_train_steps=1000000 --save_checkpoints_steps=1000
--keep_checkpoint_max=100 --use_tpu=true --tpu_name=tibert-tpu --tpu_zone=us-central1-a --num_tpu_cores=8
"""

# That which made its records, for one text.
ORIGINAL_RECORDS = """
--input_file=BASEDIR/NAME.txt --output_file=BASEDIR/NAME-maxseq-128-12345.tf_record
--spm_model_file=MODEL.model --vocab_file=MODEL.vocab --do_lower_case=False --keep_accents=True
--stochastic_tokens=False --short_seq_prob=0.05 --max_seq_length=128 --max_predictions_per_seq=20 --masked_lm_prob=0.15
--random_seed=12345 --offset_steps=10 --offset_stride=3 --dupe_factor=1 --do_whole_word_mask=False
--favor_shorter_ngram=False --ngram=3 --do_permutation=False --random_next_sentence=False --shuffle_examples=True
"""

# All flags of Google's scripts of these names, with the files that they need.
GOOGLE_FLAGS = {
    "run_pretraining": """
--albert_config_file=a --input_file=b --output_dir=c --init_checkpoint=d --max_seq_length=512
--max_predictions_per_seq=20 --do_train=True --do_eval=False --train_batch_size=4096 --eval_batch_size=64
--optimizer=lamb --learning_rate=0.00176 --poly_power=1.0 --num_train_steps=125000 --num_warmup_steps=3125
--start_warmup_step=0 --save_checkpoints_steps=5000 --keep_checkpoint_max=5 --iterations_per_loop=1000
--max_eval_steps=100 --use_tpu=False --init_from_group0=False --tpu_name=e --tpu_zone=f --gcp_project=g --master=
--num_tpu_cores=8 --masked_lm_budget=0
""",
    "create_pretraining_data": """
--input_file=a --output_file=b --vocab_file=c --spm_model_file=d --input_file_mode=r --do_lower_case=False
--do_whole_word_mask=True --do_permutation=False --favor_shorter_ngram=True --random_next_sentence=False
--max_seq_length=512 --ngram=3 --max_predictions_per_seq=20 --random_seed=12345 --dupe_factor=40 --masked_lm_prob=0.15
--short_seq_prob=0.1
""",
}
