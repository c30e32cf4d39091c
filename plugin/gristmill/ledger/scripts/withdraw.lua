-- ARGV: collection, bucket, name, version. Takes this version of a document off the roster.
withdraw(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return 1
