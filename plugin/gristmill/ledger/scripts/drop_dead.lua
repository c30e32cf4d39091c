-- ARGV: letter ids. Returns how many there were.
local dropped = 0
for _, id in ipairs(ARGV) do dropped = dropped + drop_letter(id) end
return dropped
