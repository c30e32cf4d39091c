-- ARGV: key of the collection that a parcel was accepted for, key of the one that it goes to, then
--       (bucket, name, version, '1' for a document or '0' for a deletion)... Moves them from roster to roster.
also_when_memory_is_full()
for i = 3, #ARGV, 4 do
  enrol(ARGV[1], ARGV[i], ARGV[i + 1], ARGV[i + 2], false)
  enrol(ARGV[2], ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3] == '1')
end
return 1
